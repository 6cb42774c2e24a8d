"""Choose the base segmenter's logit thresholds for certification, on training films.

Smoothing certifies a structure only where well over tau of the draws agree, so that what is certified present is an eroded
structure, the more the stronger the noise. A lower threshold moves the abstaining band outwards again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids
from certdicom.certification.scores import score
from certdicom.models.backends.choice import choose_backend
from certdicom.models.bundle import Bundle
from certdicom.research.training.data import FilmSet

LEVELS = (0.072, 0.144, 0.289, 0.5)
"""Noise levels on the networks' grid."""

CANDIDATES = (0.0, -0.25, -0.5, -0.75, -1.0, -1.5, -2.0, -2.5, -3.0, -3.5, -4.0)
TOLERATED_LOSS = 0.003
"""By how much a structure's worst-case Dice may fall below that at threshold 0."""


def calibrate_thresholds(
    bundle: Bundle, films: FilmSet, *, sigmas: Sequence[float] = LEVELS, batch: int = 10
) -> list[tuple[float, list[float]]]:
    """(sigma, a logit for each structure) pairs: of the CANDIDATES, the one with the best certified Dice that keeps the worst-case Dice."""
    chosen = []
    backend = choose_backend([bundle], device="cpu")
    for sigma in sigmas:
        segmenter = backend.base_segmenter(bundle, sigma=sigma)
        parameters = SmoothingParameters(sigma=sigma)
        scores = np.nanmean([_scores(segmenter, films, index, parameters, batch=batch) for index in range(len(films))], axis=0)
        chosen.append((sigma, [_best(certified, worst_case, tolerated=TOLERATED_LOSS) for certified, worst_case in scores]))
    return chosen


def _best(certified: np.ndarray, worst_case: np.ndarray, *, tolerated: float) -> float:
    """The candidate with the best certified Dice of those that lower worst-case Dice by no more than is tolerated; (candidates,) each."""
    allowed = [index for index in range(len(CANDIDATES)) if worst_case[index] >= worst_case[0] - tolerated]
    return CANDIDATES[max(allowed, key=lambda index: float(certified[index]))]


def _scores(segmenter: BaseSegmenter, films: FilmSet, index: int, parameters: SmoothingParameters, *, batch: int) -> np.ndarray:
    """Certified and worst-case Dice of one film, (structures, 2, candidates), from the same draws; NaN where there is no mask."""
    at_candidates = [replace(segmenter, thresholds=(level,) * segmenter.structures) for level in CANDIDATES]
    (results,) = certify_grids(
        [films.images[index].numpy()],
        at_candidates,
        [parameters] * len(CANDIDATES),
        seeds=[films.names[index].encode()],
        batch_size=batch,
    )
    scores = np.full((segmenter.structures, 2, len(CANDIDATES)), np.nan)
    for candidate, result in enumerate(results):
        for structure in range(segmenter.structures):
            if films.known[index, structure]:
                found = score(result.decisions[structure], films.masks[index, structure].numpy().astype(bool))
                scores[structure, :, candidate] = [_dice(found.certified), _dice(found.worst_case)]
    return scores


def _dice(pair: tuple[float, float] | None) -> float:
    """The Dice of a (Dice, IoU) pair, NaN where there is no score."""
    return math.nan if pair is None else pair[0]
