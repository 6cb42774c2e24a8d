"""The displayed window: the one under which an image, as shown on the model grid, has a given mean and deviation; and its certificate.

For images whose header has no window. A window from percentiles of the pixels can be moved by a change far inside a certified radius, so
that nothing could be said of the image itself. This one moves so little that almost all of the radius is left: docs/certificate.md has
definition, theorem and proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.window import Moments
from certdicom.errors import ImageRefusedError

MOMENT_TOLERANCE: Final = 1e-12
"""By how much the two moments of u, summed directly, may miss what they should be."""

SOLVER_SHARE: Final = 1e-6
"""The share of the radius that is given away for what is left of that, and for the rounding of u."""

WIDTHS: Final = (0.45, 3.0)
"""Least and largest width over the distance of the 1st and 99th percentile; beyond, something else than an image is shown."""

_FOLDS: Final = (-16.0, 8.0)
"""Natural logarithms of the widths that are tried, over the range of the averages."""

_STEPS: Final = 200
_NEAR: Final = 1e-12
_POLISHING: Final = 20
_MARGINS: Final = (0.5, 0.35, 0.25, 0.15, 0.1, 1 + 1e-9)
"""Shares of a bound e that are tried as the margin by which open cells must be open; any would do."""


def displayed_window(cells: NDArray[np.float64], moments: Moments) -> tuple[float, float]:
    """(lo, hi) under which u = clip((cells - lo) / (hi - lo)) has these moments.

    `cells` (N,): averages in the sense of the display, the brighter the larger. ImageRefusedError where it is no window of a picture;
    whether there is a window at all, `require_moments` says of what it shows.
    """
    ordered = np.sort(cells.ravel())
    first, span = float(ordered[0]), float(ordered[-1] - ordered[0])
    if span <= 0:
        raise ImageRefusedError("all of the image has the same value on the model grid: there is nothing to certify")
    lo, width = _solved((ordered - first) / span, moments)
    lo, width = first + span * lo, span * width
    low, high = np.percentile(ordered, (1.0, 99.0))
    if low == high:
        raise ImageRefusedError(f"98 % of the image has the same value ({low:g}) on the model grid: there is nothing to certify")
    share = width / (high - low)
    if not WIDTHS[0] <= share <= WIDTHS[1]:
        raise ImageRefusedError(
            f"the displayed window is {share:.2g} times as wide as the image's 1st to 99th percentile, "
            f"beyond {WIDTHS[0]:g} to {WIDTHS[1]:g}{_GIVE}"
        )
    return lo, lo + width


def require_moments(u: NDArray[np.float64], moments: Moments) -> None:
    """ImageRefusedError unless the shown cells have these moments, on which all of the proof rests."""
    if abs(u.mean() - moments.mean) > MOMENT_TOLERANCE or abs((u * u).mean() - moments.square) > MOMENT_TOLERANCE:
        wanted = f"a mean of {moments.mean:g} and a deviation of {moments.deviation:g}"
        raise ImageRefusedError(f"no window shows this image with {wanted}{_GIVE}")


_GIVE: Final = ": give a window (--window LO HI) or the part that shows the image (--crop)"


def _solved(ordered: NDArray[np.float64], moments: Moments) -> tuple[float, float]:
    """(lo, width) for sorted values from 0 to 1, as exactly as direct sums can tell; the nearest there is where there is none.

    By Newton's method from the window that would have the moments if nothing were clipped; where that fails, by one root within another,
    which cannot: for each width one lo has the mean, and the wider the window, the less is left of the square.
    """
    spread = float(ordered.std()) / moments.deviation
    lo, width, missed = _polished(ordered, float(ordered.mean()) - spread * moments.mean, spread, moments)
    if missed <= _NEAR:
        return lo, width

    def moments_of(lo: float, width: float) -> tuple[float, float]:
        begin, end = np.searchsorted(ordered, (lo, lo + width))
        inside, bright = (ordered[begin:end] - lo) / width, len(ordered) - end
        return (inside.sum() + bright) / len(ordered), (inside @ inside + bright) / len(ordered)

    def lo_of(width: float) -> float:
        return _root(lambda lo: moments_of(lo, width)[0] - moments.mean, -width, 1.0)

    def excess(fold: float) -> float:
        width = math.exp(fold)
        return moments_of(lo_of(width), width)[1] - moments.square

    if excess(_FOLDS[0]) <= 0:  # atoms: even black and white alone would have too little contrast
        return 0.0, math.exp(_FOLDS[0])
    width = math.exp(_root(excess, *_FOLDS))
    return _polished(ordered, lo_of(width), width, moments)[:2]


def _root(falling: Callable[[float], float], low: float, high: float) -> float:
    """Where a falling function passes 0: by chords that each end gives way to in turn, and now and then by halving."""
    at_low, at_high = falling(low), falling(high)
    for step in range(_STEPS):
        chord = step % 3 != 2 and at_low > at_high
        guess = high - at_high * (high - low) / (at_high - at_low) if chord else (low + high) / 2
        value = falling(guess)
        if value > 0:
            low, at_low, at_high = guess, value, at_high / 2  # so that the other end gives way next
        else:
            high, at_high, at_low = guess, value, at_low / 2
        if high - low <= _NEAR * (1 + abs(low)) or value == 0:
            break
    return (low + high) / 2


def _polished(ordered: NDArray[np.float64], lo: float, width: float, moments: Moments) -> tuple[float, float, float]:
    """Newton's steps on the two moments, summed directly, while they bring them nearer: lo, width and by how much they are missed."""
    best, found = math.inf, (lo, width)
    for _ in range(_POLISHING):
        u = np.clip((ordered - lo) / width, 0.0, 1.0)
        miss = np.array([u.mean() - moments.mean, (u * u).mean() - moments.square])
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
    return (*found, best)


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
