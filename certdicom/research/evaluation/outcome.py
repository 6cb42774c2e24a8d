"""What was decided about one image, and its scores."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import GridResult
from certdicom.certification.scores import Score, score
from certdicom.certification.statistics import simultaneous_lower_bounds
from certdicom.certification.unions import fallback

RADII_PER_SIGMA = tuple(round(0.1 * step, 1) for step in range(21))
"""Radii at which the Dice is followed, in units of sigma; n = 100 draws certify up to 0.93 of them at most."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was decided about one image.

    `decisions` (structures + unions, rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN; `unions`: structure indices of each union;
    `selected` (structures, rows, columns) bool; `radii`, likewise, float64: the certified radius of each decision over sigma, all
    of them at once with confidence 1 - alpha, and negative where nothing is certified; `draws` that tested, 0 for none.
    """

    decisions: NDArray[np.uint8]
    selected: NDArray[np.bool_]
    radii: NDArray[np.float64]
    draws: int
    unions: tuple[tuple[int, ...], ...]

    @property
    def abstain_fraction(self) -> float:
        """Share of pixels at which any structure abstains."""
        return float((self.decisions[: len(self.selected)] == ABSTAIN).any(axis=0).mean())

    def fallback_fraction(self, union: int) -> float:
        """Share of pixels at which the union is certified present and no member is."""
        structures = len(self.selected)
        found = fallback(self.decisions[:structures], self.decisions[structures + union], members=self.unions[union])
        return float(found.mean())

    def scores(self, plane: int, reference: NDArray[np.bool_]) -> Score:
        return score(self.decisions[plane], reference)

    def dice_at_radii(self, plane: int, reference: NDArray[np.bool_]) -> list[float] | None:
        """The certified Dice (paper) if only decisions that hold within each of RADII_PER_SIGMA counted; NaN where there is no score.

        None for a union, whose decisions have no radius of their own.
        """
        if plane >= len(self.selected):
            return None
        present, size = self.selected[plane], int(reference.sum())
        series = []
        for radius in RADII_PER_SIGMA:
            found = present & (self.radii[plane] >= radius)
            both = size + int(found.sum())  # 2TP + FP + FN + A_fg
            series.append(2 * int((found & reference).sum()) / both if both else math.nan)
        return series


def outcome_of(result: GridResult, parameters: SmoothingParameters) -> Outcome:
    """What the sampler decided, with the radius of each decision."""
    unions = result.unions.decisions if result.unions else result.decisions[:0]
    lower = simultaneous_lower_bounds(result.counts, n=result.draws, alpha=parameters.look_alpha)
    return Outcome(
        decisions=np.concatenate([result.decisions, unions]),
        selected=result.selected,
        radii=_radii(lower),
        draws=result.draws,
        unions=parameters.unions,
    )


def without_noise(present: NDArray[np.bool_], unions: tuple[tuple[int, ...], ...]) -> Outcome:
    """The decisions of the segmenter alone, of which nothing is certified."""
    every = np.stack(Hypotheses(len(present), unions).with_unions(list(present)))
    return Outcome(
        decisions=np.where(every, PRESENT, ABSENT).astype(np.uint8),
        selected=present,
        radii=np.full(present.shape, -1.0, np.float64),
        draws=0,
        unions=unions,
    )


def _radii(lower: NDArray[np.float64]) -> NDArray[np.float64]:
    """Φ⁻¹ of each lower bound, negative below one half."""
    levels, place = np.unique(lower, return_inverse=True)
    normal = NormalDist()
    return np.array([normal.inv_cdf(level) if level >= 0.5 else -1.0 for level in levels])[place].reshape(lower.shape)
