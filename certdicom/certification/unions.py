"""The fallback: where no single structure can be certified, that one of several is there (Anani et al., ICML 2024, coarsen likewise)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import PRESENT


def fallback(decisions: NDArray[np.uint8], union: NDArray[np.uint8], *, members: tuple[int, ...]) -> NDArray[np.bool_]:
    """(rows, columns): where the union is certified present and no member is, so that only the union says something.

    `decisions` (structures, rows, columns), `union` (rows, columns), both of one certificate and on the same pixels.
    """
    return np.asarray((union == PRESENT) & (decisions[list(members)] != PRESENT).all(axis=0))
