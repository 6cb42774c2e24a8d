"""How a reader sees a film whose header has no window: from its 1st to its 99th percentile, collimation borders left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from certdicom.imaging.resampling import box_average

SOURCE = "percentiles 1-99 of the pixels, for the picture alone"
PERCENTILES = (1.0, 99.0)

REFERENCE_GRID = 256
"""Percentiles are taken of the film averaged to this grid, so that a film has one window whatever the model's grid."""

FLAT = 0.02
"""A border is flat where nearly all of it lies within this share of the film's range around its median."""

NEAR_END = 0.05
"""A flat border is collimation only if it is nearly the darkest or brightest of the film, by this share of its range."""

NEARLY_ALL = 0.95
"""Share of a border line that must be flat; the rest may be a marker or a letter."""

LEAST_LEFT = 0.1
"""If borders leave less than this share of the film, they were no borders."""

LEAST_SPAN = 1e-3
"""The two percentiles are the same value, but for rounding, if they are closer than this share of the film's range."""


def percentile_window(levels: NDArray[np.number], *, padding: NDArray[np.bool_] | None) -> tuple[float, float]:
    """(lo, hi) of `levels` (rows, columns), which may be stored or modality values; `padding` pixels do not count.

    Where the two are equal, nearly all of the film having one value, the range of all its values.
    """
    averages = box_average(levels, REFERENCE_GRID)
    valid = np.ones(averages.shape, bool)
    if padding is not None:
        valid = box_average(padding, REFERENCE_GRID) <= 0
    if valid.mean() < LEAST_LEFT:
        # So little is left between the padding that whole cells are rare: the pixels themselves decide.
        inside = levels[~padding] if padding is not None else levels
    else:
        inside = averages[_without_borders(averages, valid)]
    lo, hi = (float(value) for value in np.percentile(inside, PERCENTILES))
    if hi - lo <= LEAST_SPAN * float(np.ptp(inside)):
        return float(levels.min()), float(levels.max())
    return lo, hi


def _without_borders(averages: NDArray[np.float64], valid: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """`valid` without the flat lines at its four sides, taken off one by one until none is left."""
    low, high = float(averages[valid].min()), float(averages[valid].max())
    span = high - low
    top, bottom, left, right = 0, averages.shape[0], 0, averages.shape[1]

    def is_border(line: NDArray[np.float64], known: NDArray[np.bool_]) -> bool:
        if not known.any():
            return True
        middle = float(np.median(line[known]))
        flat = (np.abs(line[known] - middle) <= FLAT * span).mean() >= NEARLY_ALL
        return bool(flat and (middle - low <= NEAR_END * span or high - middle <= NEAR_END * span))

    changed = True
    while changed and top < bottom and left < right:
        before = (top, bottom, left, right)
        across, down = slice(left, right), slice(top, bottom)
        top += is_border(averages[top, across], valid[top, across])
        bottom -= is_border(averages[bottom - 1, across], valid[bottom - 1, across])
        left += is_border(averages[down, left], valid[down, left])
        right -= is_border(averages[down, right - 1], valid[down, right - 1])
        changed = (top, bottom, left, right) != before
    kept = np.zeros_like(valid)
    kept[top:bottom, left:right] = valid[top:bottom, left:right]
    return kept if kept.mean() >= LEAST_LEFT else valid
