"""Guaranteed bounds of measurements: what every completion of the abstained pixels has in common.

Let S be the mask of one structure in the smoothed segmentation, P its certified present pixels and U its pixels that are
not certified absent (present or abstain). Where all certificates of the image hold, which is so with confidence
1 - alpha, a certified present pixel is in S and a certified absent one is not, so

    P ⊆ S ⊆ U,                                                                                      (1)

and the same holds for the mask of every film within the certified radius of this one.

**Monotone measurements.** If m never falls when pixels are added, (1) gives m(P) ≤ m(S) ≤ m(U). Both ends are
attained, by S = P and by S = U, so no narrower bounds follow from the decisions alone.

* The area |S| is monotone.
* The width is w(S) = last - first + 1 over the columns that hold at least `support` pixels of S, and 0 where there is
  none. A column that has `support` pixels of P has as many of S, and so on to U: the supporting columns of P are among
  those of S, those among U's. Over a larger set of columns `first` can only fall and `last` only rise, so w is monotone.
* A thorax that is drawn as several structures (left and right lung) is their union T, and unions keep (1): P₁ ∪ P₂ ⊆ T ⊆ U₁ ∪ U₂.

**Ratio.** With the heart's width h ∈ [h⁻, h⁺] and the thorax's t ∈ [t⁻, t⁺], the cardiothoracic ratio h / t rises in h
and falls in t, so h⁻ / t⁺ ≤ h / t ≤ h⁺ / t⁻ wherever it exists (t > 0). With t⁻ = 0 there is no upper bound, with
t⁺ = 0 there is no ratio. Structures are decided independently of each other, so that these ends are attained too.

The bounds say where the *smoothed model's* measurement lies, under any small enough change of the film. They do not say
that the model outlines the heart or the lungs rightly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, PRESENT, IntervalCount
from certdicom.errors import UsageError


@dataclass(frozen=True)
class IntervalRatio:
    """Guaranteed bounds of a ratio of two lengths; `upper` None where nothing bounds it from above."""

    lower: float
    upper: float | None


def area_bounds(plane: NDArray[np.uint8]) -> IntervalCount:
    """Bounds of a structure's area in pixels; `plane` (rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN."""
    return IntervalCount(int((plane == PRESENT).sum()), int((plane != ABSENT).sum()))


def width_bounds(planes: NDArray[np.uint8] | Sequence[NDArray[np.uint8]], *, support: int = 1) -> IntervalCount:
    """Bounds of the width of the union of `planes`, in columns.

    `planes` (structures, rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN, at least one; `support`: how many pixels a
    column must hold to count, because a single stray pixel should not make a chest wide. Raises UsageError for
    `support` below 1 or no planes.
    """
    if support < 1:
        raise UsageError(f"support must be at least 1 pixel, not {support}")
    if not len(planes):
        raise UsageError("a width needs at least one structure")
    lower, upper = (_width(mask, support) for mask in _union_masks(planes))
    return IntervalCount(lower, upper)


def cardiothoracic_ratio_bounds(*, heart: IntervalCount, thorax: IntervalCount) -> IntervalRatio | None:
    """Bounds of the heart's width over the thorax's, from the bounds of both; None where no completion has a thorax."""
    if thorax.upper == 0:
        return None
    upper = heart.upper / thorax.lower if thorax.lower else None
    return IntervalRatio(heart.lower / thorax.upper, upper)


def _union_masks(planes: NDArray[np.uint8] | Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(rows, columns) of P and of U."""
    stacked = np.asarray(planes)
    return np.asarray((stacked == PRESENT).any(axis=0)), np.asarray((stacked != ABSENT).any(axis=0))


def _width(mask: NDArray[np.bool_], support: int) -> int:
    columns = np.flatnonzero(mask.sum(axis=0) >= support)
    return int(columns[-1] - columns[0]) + 1 if columns.size else 0
