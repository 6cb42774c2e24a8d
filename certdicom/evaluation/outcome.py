"""From votes to certified decisions and their scores: one family per image."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.scores import Score, score
from certdicom.certification.statistics import holm_reject, simultaneous_lower_bounds
from certdicom.evaluation.votes import Votes

RADII_PER_SIGMA = tuple(round(0.1 * step, 1) for step in range(21))
"""Radii at which the Dice is followed, in units of sigma; n = 100 draws certify up to 0.93 of them at most."""


@dataclass(frozen=True, eq=False)
class Outcome:
    """What was decided about one image, arrays of shape (structures, rows, columns).

    `decisions` uint8 of ABSENT, PRESENT, ABSTAIN; `selected` bool; `radii` float64, the certified radius of each decision
    over sigma, all of them at once with confidence 1 - alpha, and negative where nothing is certified.
    """

    decisions: NDArray[np.uint8]
    selected: NDArray[np.bool_]
    radii: NDArray[np.float64]

    @property
    def abstain_fraction(self) -> float:
        """Share of pixels at which any structure abstains."""
        return float((self.decisions == ABSTAIN).any(axis=0).mean())

    def scores(self, structure: int, reference: NDArray[np.bool_]) -> Score:
        return score(self.decisions[structure], reference)

    def dice_at_radii(self, structure: int, reference: NDArray[np.bool_]) -> list[float] | None:
        """The certified Dice (paper) if only decisions that hold within each of RADII_PER_SIGMA counted; None for an empty reference."""
        if not reference.any():
            return None
        present = self.selected[structure]
        series = []
        for radius in RADII_PER_SIGMA:
            found = present & (self.radii[structure] >= radius)
            missed = reference & ~found
            overlap = int((found & reference).sum())
            series.append(2 * overlap / (2 * overlap + int((found & ~reference).sum()) + int(missed.sum())))
        return series


def independent(votes: Votes, parameters: SmoothingParameters) -> Outcome:
    """Each structure present or absent by itself (sigmoid): K = structures × pixels."""
    selected = 2 * votes.first > parameters.n0  # a tie goes to "absent"
    return _tested(selected, np.where(selected, votes.rest, parameters.n - votes.rest), parameters)


def exclusive(votes: Votes, parameters: SmoothingParameters) -> Outcome:
    """One class a pixel, structures and background (softmax): K = pixels, and a pixel abstains as a whole."""
    first = np.concatenate([parameters.n0 - votes.first.sum(0, keepdims=True), votes.first])
    rest = np.concatenate([parameters.n - votes.rest.sum(0, keepdims=True), votes.rest])
    chosen = first.argmax(0)[None]  # a tie goes to the background, or the earlier structure
    selected = chosen == np.arange(1, len(first))[:, None, None]
    tested = _tested(selected[:1], np.take_along_axis(rest, chosen, axis=0), parameters)
    held = tested.decisions[:1] != ABSTAIN
    decisions = np.where(held, np.where(selected, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)
    return Outcome(decisions=decisions, selected=selected, radii=np.broadcast_to(tested.radii, selected.shape))


def without_noise(present: NDArray[np.bool_]) -> Outcome:
    """The decisions of the segmenter alone, of which nothing is certified."""
    return Outcome(
        decisions=np.where(present, PRESENT, ABSENT).astype(np.uint8), selected=present, radii=np.full(present.shape, -1.0, np.float64)
    )


def _tested(selected: NDArray[np.bool_], counts: NDArray[np.integer], parameters: SmoothingParameters) -> Outcome:
    certified = holm_reject(counts, n=parameters.n, tau=parameters.tau, alpha=parameters.alpha)
    decisions = np.where(certified, np.where(selected, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)
    lower = simultaneous_lower_bounds(counts, n=parameters.n, alpha=parameters.alpha)
    levels, place = np.unique(lower, return_inverse=True)
    normal = NormalDist()
    radius_of = np.array([normal.inv_cdf(level) if level >= 0.5 else -1.0 for level in levels])
    return Outcome(decisions=decisions, selected=selected, radii=radius_of[place].reshape(lower.shape))
