"""The fallback: where no single structure can be certified, that one of several is there (Anani et al., ICML 2024, coarsen likewise)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import PRESENT


@dataclass(frozen=True, eq=False)
class UnionLayer:
    """Decisions about unions of structures, which stand in one family with those about single structures.

    `members`: structure indices of each union; `decisions` (unions, H, W) uint8 of ABSENT, PRESENT, ABSTAIN: whether any member is
    present; `counts` (unions, H, W) int32, votes for the selected decision.
    """

    members: tuple[tuple[int, ...], ...]
    decisions: NDArray[np.uint8]
    counts: NDArray[np.int32]


def fallback(decisions: NDArray[np.uint8], union: NDArray[np.uint8], *, members: tuple[int, ...]) -> NDArray[np.bool_]:
    """(rows, columns): where the union is certified present and no member is, so that only the union says something.

    `decisions` (structures, rows, columns), `union` (rows, columns), both of one certificate and on the same pixels.
    """
    return np.asarray((union == PRESENT) & (decisions[list(members)] != PRESENT).all(axis=0))
