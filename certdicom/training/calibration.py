"""Choose the base segmenter's logit thresholds for certification, on training films.

Smoothing certifies a structure only where well over tau of the draws agree, so that what is certified present is an eroded
structure, the more the stronger the noise. A lower threshold moves the abstaining band outwards again.
"""

from __future__ import annotations

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

SIGMAS = (0.072, 0.144, 0.289, 0.5)
CANDIDATES = (0.0, -0.5, -1.0, -1.5, -2.0)
TOLERATED_LOSS = 0.003
"""By how much the mean worst-case Dice may fall below that at threshold 0."""


def calibrate_thresholds(bundle: Bundle, films: FilmSet, *, batch: int = 10) -> list[tuple[float, float]]:
    """(sigma, logit) pairs: of the CANDIDATES, the one with the best mean certified Dice that keeps the worst-case Dice."""
    chosen = []
    device = torch.device("cpu")
    for sigma in SIGMAS:
        decide = DenoisedSegmenter(bundle, sigma=sigma, device=device, precision=choose_precision("auto", device))
        scores = np.mean([_scores(decide, films, index, sigma=sigma, batch=batch) for index in range(len(films))], axis=0)
        allowed = [index for index in range(len(CANDIDATES)) if scores[index, 1] >= scores[0, 1] - TOLERATED_LOSS]
        best = max(allowed, key=lambda index: float(scores[index, 0]))
        chosen.append((sigma, CANDIDATES[best]))
    return chosen


def _scores(decide: DenoisedSegmenter, films: FilmSet, index: int, *, sigma: float, batch: int) -> np.ndarray:
    """Mean certified and worst-case Dice of one film per candidate, (candidates, 2), from the same draws."""
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
    means = []
    for chosen, count in zip(selected, np.where(selected, present, parameters.n - present), strict=True):
        decisions = decisions_of(chosen, certified_after(count, n=parameters.n, parameters=parameters))
        known = [c for c in range(len(decisions)) if films.known[index, c]]
        found = [score(decisions[c], films.masks[index, c].numpy().astype(bool)) for c in known]
        means.append([_mean([s.certified for s in found]), _mean([s.worst_case for s in found])])
    return np.array(means)


def _mean(pairs: Sequence[tuple[float, float] | None]) -> float:
    """Mean Dice of (Dice, IoU) pairs, those without a score left out."""
    return float(np.mean([pair[0] for pair in pairs if pair is not None]))
