"""Testing the same hypotheses at several numbers of draws, fixed beforehand (docs/certificate.md has the proof).

A look tests what no earlier look certified, on the votes of all draws so far, and spends its part of alpha. A hypothesis
that was certified once stays so, and leaves the family. Votes may be arrays, or tensors on any device: a look takes their histogram to the
host.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import Array, histogram, holm_least


def certified_after(counts: Array, *, n: int, parameters: SmoothingParameters, before: Array | None = None) -> Array:
    """What is certified after the look at `n` draws: `before`, and what this look adds.

    `counts`: votes among n for the selected decisions, of any shape; `before`: certified at earlier looks, bool, same shape.
    """
    tested = counts if before is None else counts[~before]
    certified = counts >= holm_least(histogram(tested, n=n), tau=parameters.tau, alpha=parameters.look_alpha)
    return certified if before is None else before | certified


def more_is_possible(counts: Array, certified: Array, *, n: int, parameters: SmoothingParameters) -> bool:
    """Whether further draws that all agreed could certify anything at a look after the one at `n`."""
    later_looks = [later for later in parameters.planned_looks if later > n]
    if not later_looks:
        return False
    left = histogram(counts[~certified], n=n)
    return any(_agreeing(left, later - n, parameters) <= later for later in later_looks)


def _agreeing(left: NDArray[np.int64], further: int, parameters: SmoothingParameters) -> int:
    """The smallest count that is certified if `further` draws agree with all that are left."""
    return holm_least(np.concatenate([np.zeros(further, np.int64), left]), tau=parameters.tau, alpha=parameters.look_alpha)


class LookByLook:
    """One family of hypotheses about one image, tested look after look.

    `draws`: those of the last look, 0 before the first; `counts`: votes among them for the selected decisions; `certified`: bool, by this
    look or an earlier one. All of the shape (planes, rows, columns) that `look` is given, and where that lies.
    """

    counts: Array
    certified: Array

    def __init__(self, parameters: SmoothingParameters, *, structures: int) -> None:
        """`structures`: how many planes abstain for the target's sake; those of unions come after them."""
        self._parameters = parameters
        self._structures = structures
        self.draws = 0

    def look(self, counts: Array, *, n: int) -> bool:
        """Test on the votes of `n` draws; whether to stop, as little enough abstains or no later look could certify anything."""
        self.certified = certified_after(counts, n=n, parameters=self._parameters, before=self.certified if self.draws else None)
        self.counts, self.draws = counts, n
        cells = math.prod(counts.shape[1:])
        abstaining = cells - int(self.certified[: self._structures].all(0).sum())
        return abstaining / cells <= self._parameters.abstain_target or not more_is_possible(
            counts, self.certified, n=n, parameters=self._parameters
        )
