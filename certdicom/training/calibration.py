"""Choose the base segmenter's logit thresholds for certification, on training films.

Smoothing certifies a structure only where well over tau of the draws agree, so that what is certified present is an eroded
structure, the more the stronger the noise. A lower threshold moves the abstaining band outwards again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from certdicom.certification.looks import certified_after
from certdicom.certification.noise import noisy_batch
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.scores import score
from certdicom.certification.smoothing import decisions_of
from certdicom.models.bundle import Bundle
from certdicom.models.runtime import DenoisedSegmenter, choose_precision
from certdicom.training.data import FilmSet

LEVELS = (0.072, 0.144, 0.289, 0.5)
"""Noise levels on the networks' grid."""

CANDIDATES = (0.0, -0.25, -0.5, -0.75, -1.0, -1.5, -2.0, -2.5, -3.0)
TOLERATED_LOSS = 0.003
"""By how much a structure's worst-case Dice may fall below that at threshold 0."""


def calibrate_thresholds(
    bundle: Bundle, films: FilmSet, *, sigmas: Sequence[float] = LEVELS, batch: int = 10
) -> list[tuple[float, list[float]]]:
    """(sigma, a logit for each structure) pairs: of the CANDIDATES, the one with the best certified Dice that keeps the worst-case Dice."""
    chosen = []
    device = torch.device("cpu")
    for sigma in sigmas:
        decide = DenoisedSegmenter(bundle, sigma=sigma, device=device, precision=choose_precision("auto", device))
        scores = np.nanmean([_scores(decide, films, index, sigma=sigma, batch=batch) for index in range(len(films))], axis=0)
        chosen.append((sigma, [_best(certified, worst_case) for certified, worst_case in scores]))
    return chosen


def _best(certified: np.ndarray, worst_case: np.ndarray) -> float:
    """The candidate with the best certified Dice of those that lower worst-case Dice by no more than is tolerated; (candidates,) each."""
    allowed = [index for index in range(len(CANDIDATES)) if worst_case[index] >= worst_case[0] - TOLERATED_LOSS]
    return CANDIDATES[max(allowed, key=lambda index: float(certified[index]))]


def _scores(decide: DenoisedSegmenter, films: FilmSet, index: int, *, sigma: float, batch: int) -> np.ndarray:
    """Certified and worst-case Dice of one film, (structures, 2, candidates), from the same draws; NaN where there is no mask."""
    parameters = SmoothingParameters(sigma=sigma)
    levels = torch.tensor(CANDIDATES).view(-1, 1, 1, 1, 1)

    def votes(draws: range) -> np.ndarray:
        count: int | torch.Tensor = 0
        for first in range(draws.start, draws.stop, batch):
            part = range(first, min(first + batch, draws.stop))
            noisy = noisy_batch(films.images[index], sigma, seed=films.names[index].encode(), draws=part)
            count = count + (decide.logits(noisy)[None] > levels).sum(1)
        return np.asarray(count)

    selected = 2 * votes(range(parameters.n0)) > parameters.n0
    present = votes(range(parameters.n0, parameters.n0 + parameters.n))
    scores = np.full((films.masks.shape[1], 2, len(CANDIDATES)), np.nan)
    for candidate, (chosen, count) in enumerate(zip(selected, np.where(selected, present, parameters.n - present), strict=True)):
        decisions = decisions_of(chosen, certified_after(count, n=parameters.n, parameters=parameters))
        for structure in range(len(decisions)):
            if films.known[index, structure]:
                found = score(decisions[structure], films.masks[index, structure].numpy().astype(bool))
                scores[structure, :, candidate] = [_dice(found.certified), _dice(found.worst_case)]
    return scores


def _dice(pair: tuple[float, float] | None) -> float:
    """The Dice of a (Dice, IoU) pair, NaN where there is no score."""
    return math.nan if pair is None else pair[0]
