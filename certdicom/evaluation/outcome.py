"""From votes to certified decisions and their scores: one family per image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.looks import LookByLook
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.scores import Score, score
from certdicom.certification.smoothing import decisions_of
from certdicom.certification.statistics import simultaneous_lower_bounds
from certdicom.certification.unions import fallback

RADII_PER_SIGMA = tuple(round(0.1 * step, 1) for step in range(21))
"""Radii at which the Dice is followed, in units of sigma; n = 100 draws certify up to 0.93 of them at most."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was decided about one image.

    `decisions` (structures + unions, rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN; `unions`: structure indices of each union;
    `selected` (structures, rows, columns) bool; `radii`, likewise, float64: the certified radius of each decision over sigma, all
    of them at once with confidence 1 - alpha, and negative where nothing is certified; `draws` that tested, 0 for none; `wrong_allowed`:
    how many certified decisions may be wrong (k-FWER).
    """

    decisions: NDArray[np.uint8]
    selected: NDArray[np.bool_]
    radii: NDArray[np.float64]
    draws: int
    unions: tuple[tuple[int, ...], ...]
    wrong_allowed: int = 0

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
        return score(self.decisions[plane], reference, wrong_allowed=self.wrong_allowed)

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


class Trial:
    """One segmenter's decisions about one image: selected by the first n0 draws, then tested look by look, in one family.

    Votes are how often each structure, and after them each union, was present: int32 (structures + unions, rows, columns). Each is
    present or absent by itself (sigmoid), or `exclusive`: of structures and background one at a pixel (softmax), which is one
    hypothesis, so that the pixel abstains as a whole.
    """

    def __init__(self, first: NDArray[np.int32], parameters: SmoothingParameters, *, exclusive: bool) -> None:
        self._parameters = parameters
        self._structures = len(first) - len(parameters.unions)
        self._selected = 2 * first > parameters.n0  # a tie goes to "absent"
        self._chosen: NDArray[np.intp] | None = None
        if exclusive:
            self._chosen = self._classes(first, parameters.n0).argmax(0)[None]  # a tie goes to the background, or the earlier structure
            self._selected[: self._structures] = self._chosen == np.arange(1, self._structures + 1)[:, None, None]
        self._test = LookByLook(parameters, structures=1 if exclusive else self._structures)

    def look(self, present: NDArray[np.int32], *, draws: int) -> bool:
        """Test on the votes among `draws` fresh draws; whether to stop."""
        counts = np.where(self._selected, present, draws - present)
        if self._chosen is not None:
            chosen = np.take_along_axis(self._classes(present, draws), self._chosen, axis=0)
            counts = np.concatenate([chosen, counts[self._structures :]])
        return self._test.look(counts.astype(np.int32), n=draws)

    @property
    def counts(self) -> NDArray[np.int32]:
        """Votes for what was selected, of each hypothesis: structures, or one class a pixel, and after them unions."""
        return self._test.counts

    def outcome(self) -> Outcome:
        """What was decided, after at least one look."""
        tests = len(self._test.counts) - len(self._parameters.unions)
        shape = (self._structures, *self._selected.shape[1:])
        certified = np.concatenate([np.broadcast_to(self._test.certified[:tests], shape), self._test.certified[tests:]])
        lower = simultaneous_lower_bounds(self._test.counts[:tests], n=self._test.draws, alpha=self._parameters.look_alpha)
        return Outcome(
            decisions=decisions_of(self._selected, certified),
            selected=self._selected[: self._structures],
            radii=np.broadcast_to(_radii(lower), shape),
            draws=self._test.draws,
            unions=self._parameters.unions,
            wrong_allowed=self._parameters.k - 1,
        )

    def _classes(self, present: NDArray[np.int32], draws: int) -> NDArray[np.int32]:
        """Votes for the background and each structure, exactly one at each pixel and draw."""
        structures = present[: self._structures]
        return np.concatenate([draws - structures.sum(0, keepdims=True, dtype=np.int32), structures])


def without_noise(present: NDArray[np.bool_], unions: tuple[tuple[int, ...], ...]) -> Outcome:
    """The decisions of the segmenter alone, of which nothing is certified."""
    every = np.concatenate([present, *(present[list(members)].any(0, keepdims=True) for members in unions)])
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
