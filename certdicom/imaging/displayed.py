"""The displayed window: the one under which an image, as shown on the model grid, has a given mean and deviation; and its certificate.

For images whose header has no window. A window from percentiles of the pixels can be moved by a change far inside a certified radius, so
that nothing could be said of the image itself. This one moves so little that almost all of the radius is left: docs/certificate.md has
definition, theorem and proof.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from certdicom.errors import ImageRefusedError, UsageError

MOMENT_TOLERANCE: Final = 1e-12
"""By how much the two moments of u, summed directly, may miss what they should be."""

SOLVER_SHARE: Final = 1e-6
"""The share of the radius that is given away for what is left of that, and for the rounding of u."""

WIDTHS: Final = (0.45, 3.0)
"""Least and largest width over the distance of the 1st and 99th percentile; beyond, something else than an image is shown."""

_FOLDS: Final = (-16.0, 8.0)
"""Natural logarithms of the widths that are tried, over the range of the averages."""

_POLISHING: Final = 20
_MARGINS: Final = (0.5, 0.35, 0.25, 0.15, 0.1, 1 + 1e-9)
"""Shares of a bound e that are tried as the margin by which open cells must be open; any would do."""


@dataclass(frozen=True)
class Target:
    """What the shown image must have: `mean` and `deviation`, constants of a bundle. UsageError unless some image has both."""

    mean: float = 0.53
    deviation: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.mean < 1 and 0 < self.deviation**2 < self.mean * (1 - self.mean)):
            raise UsageError(f"no picture in [0, 1] has mean {self.mean:g} and deviation {self.deviation:g}")

    @property
    def square(self) -> float:
        """The mean of the squares."""
        return self.mean**2 + self.deviation**2


def displayed_window(cells: NDArray[np.float64], target: Target) -> tuple[float, float]:
    """(lo, hi) under which u = clip((cells - lo) / (hi - lo)) has the target's moments.

    `cells` (N,): averages in the sense of the display, the brighter the larger. ImageRefusedError where there is no such window, or
    where it is no window of a picture.
    """
    ordered = np.sort(cells.ravel())
    first, span = float(ordered[0]), float(ordered[-1] - ordered[0])
    if span <= 0:
        raise ImageRefusedError("all of the image has the same value on the model grid: there is nothing to certify")
    lo, width = _solved((ordered - first) / span, target)
    lo, width = first + span * lo, span * width
    u = np.clip((ordered - lo) / width, 0.0, 1.0)
    if abs(u.mean() - target.mean) > MOMENT_TOLERANCE or abs((u * u).mean() - target.square) > MOMENT_TOLERANCE:
        raise ImageRefusedError(f"no window shows this image with a mean of {target.mean:g} and a deviation of {target.deviation:g}{_GIVE}")
    low, high = np.percentile(ordered, (1.0, 99.0))
    share = width / (high - low) if high > low else math.inf
    if not WIDTHS[0] <= share <= WIDTHS[1]:
        raise ImageRefusedError(
            f"the displayed window is {share:.2g} times as wide as the image's 1st to 99th percentile, beyond {WIDTHS[0]:g} to {WIDTHS[1]:g}{_GIVE}"
        )
    return lo, lo + width


_GIVE: Final = ": give a window (--window LO HI) or the part that shows the image (--crop)"


def _solved(ordered: NDArray[np.float64], target: Target) -> tuple[float, float]:
    """(lo, width) for sorted values from 0 to 1, as exactly as direct sums can tell; the nearest there is where there is none."""
    sums, squares = (np.concatenate([[0.0], np.cumsum(values)]) for values in (ordered, ordered * ordered))
    count = len(ordered)

    def moments(lo: float, width: float) -> tuple[float, float]:
        begin, end = np.searchsorted(ordered, (lo, lo + width))
        is_open, bright = end - begin, count - end
        total, square = sums[end] - sums[begin], squares[end] - squares[begin]
        mean = (total - is_open * lo) / width + bright
        return mean / count, ((square - 2 * lo * total + is_open * lo * lo) / width**2 + bright) / count

    def lo_of(width: float) -> float:
        return float(brentq(lambda lo: moments(lo, width)[0] - target.mean, -width, 1.0, xtol=1e-15, rtol=1e-14))

    def excess(fold: float) -> float:
        width = math.exp(fold)
        return moments(lo_of(width), width)[1] - target.square

    if excess(_FOLDS[0]) <= 0:  # atoms: even black and white alone would have too little contrast
        return 0.0, math.exp(_FOLDS[0])
    width = math.exp(float(brentq(excess, *_FOLDS, xtol=1e-13, rtol=1e-14)))
    return _polished(ordered, lo_of(width), width, target)


def _polished(ordered: NDArray[np.float64], lo: float, width: float, target: Target) -> tuple[float, float]:
    """Newton's steps on the two moments, summed directly, while they bring them nearer."""
    best, found = math.inf, (lo, width)
    for _ in range(_POLISHING):
        u = np.clip((ordered - lo) / width, 0.0, 1.0)
        miss = np.array([u.mean() - target.mean, (u * u).mean() - target.square])
        size = float(np.abs(miss).max())
        if size >= best:
            break
        best, found = size, (lo, width)
        inside = u[(u > 0) & (u < 1)]
        slopes = np.array([[len(inside), inside.sum()], [2 * inside.sum(), 2 * (inside * inside).sum()]]) / (width * len(u))
        try:
            step = np.linalg.solve(slopes, miss)
        except np.linalg.LinAlgError:
            break
        lo, width = lo + float(step[0]), width + float(step[1])
        if width <= 0:
            break
    return found


def level_radius(u: NDArray[np.float64], width: float, radius: float) -> float:
    """The largest change of the averages (L2) under which u, its window taken anew, provably moves by no more than `radius` (L2).

    `u` (N,) of the cells that count for the moments; `width` of the window, in levels. Less SOLVER_SHARE.
    """
    inside = np.sort(u[(u > 0) & (u < 1)])

    def moved(change: float) -> float:
        """A bound on how far u moves: 2 · change over the sum of both widths, the other one bounded below over and over."""
        other, bound = 0.0, 2 * change / width
        for _ in range(30):
            spread = _spread_floor(inside, bound)
            if spread <= 0:
                break
            root = math.sqrt(spread)
            higher = (width - change / root) / (1 + bound / root)
            if higher <= other * (1 + 1e-9):
                break
            other, bound = higher, 2 * change / (width + higher)
        return bound

    low, high = 0.0, radius * width
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if moved(middle) <= radius else (low, middle)
    return low * (1 - SOLVER_SHARE)


def _spread_floor(inside: NDArray[np.float64], bound: float) -> float:
    """The least sum of squares about their mean of those `inside` cells (sorted, 0 < u < 1) that stay inside while u moves by `bound`.

    By a margin m from the ends, at most floor((bound / m)²) cells can reach one; which ones nobody knows. Leaving out any set T of K
    of n cells takes Σ_T (u - mean)² + (Σ_T (u - mean))² / (n - K) <= D · n / (n - K) off, D being the sum of the K largest squares.
    """
    best = 0.0
    for share in _MARGINS:
        margin = share * bound
        if margin >= 0.5:
            continue
        begin, end = np.searchsorted(inside, margin, side="right"), np.searchsorted(inside, 1 - margin, side="left")
        left = inside[begin:end]
        lost = math.floor((bound / margin) ** 2) if share < 1 else 0
        if len(left) <= lost + 1:
            continue
        squares = (left - left.mean()) ** 2
        ends = np.sort(np.concatenate([squares[:lost], squares[len(left) - lost :]]))[::-1][:lost]
        best = max(best, float(squares.sum() - ends.sum() * len(left) / (len(left) - lost)))
    return best
