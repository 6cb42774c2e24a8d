"""Testing the same hypotheses at several numbers of draws, fixed beforehand (docs/certificate.md has the proof).

A look tests what no earlier look certified, on the votes of all draws so far, and spends its part of alpha. A hypothesis
that was certified once stays so, and leaves the family.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import holm_reject


def certified_after(
    counts: NDArray[np.integer], *, n: int, parameters: SmoothingParameters, before: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """What is certified after the look at `n` draws: `before`, and what this look adds.

    `counts`: votes among n for the selected decisions, of any shape; `before`: certified at earlier looks, bool, same shape.
    """
    certified = np.zeros(counts.shape, np.bool_) if before is None else before.copy()
    certified[~certified] = holm_reject(counts[~certified], n=n, tau=parameters.tau, alpha=parameters.look_alpha)
    return certified


def more_is_possible(counts: NDArray[np.integer], certified: NDArray[np.bool_], *, n: int, parameters: SmoothingParameters) -> bool:
    """Whether further draws that all agreed could certify anything at a look after the one at `n`."""
    return any(
        bool((certified_after(counts + (later - n), n=later, parameters=parameters, before=certified) != certified).any())
        for later in parameters.planned_looks
        if later > n
    )


class LookByLook:
    """One family of hypotheses about one image, tested look after look.

    `draws`: those of the last look, 0 before the first; `counts`: votes among them for the selected decisions; `certified`: bool, by this
    look or an earlier one. All of the shape (planes, rows, columns) that `look` is given.
    """

    counts: NDArray[np.int32]
    certified: NDArray[np.bool_]

    def __init__(self, parameters: SmoothingParameters, *, structures: int) -> None:
        """`structures`: how many planes abstain for the target's sake; those of unions come after them."""
        self._parameters = parameters
        self._structures = structures
        self.draws = 0

    def look(self, counts: NDArray[np.int32], *, n: int) -> bool:
        """Test on the votes of `n` draws; whether to stop, as little enough abstains or no later look could certify anything."""
        self.certified = certified_after(counts, n=n, parameters=self._parameters, before=self.certified if self.draws else None)
        self.counts, self.draws = counts, n
        abstaining = float((~self.certified[: self._structures]).any(axis=0).mean())
        return abstaining <= self._parameters.abstain_target or not more_is_possible(
            counts, self.certified, n=n, parameters=self._parameters
        )
