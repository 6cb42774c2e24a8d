"""Box averaging between an image and the model grid: the matrices, their exact norm, and the cells.

`u = A_r · X · A_cᵀ` squashes an image `X` (rows, columns) to the grid (H, W). Row `i` of `A_r` averages the interval
`[i · size / H, (i + 1) · size / H)` of a piecewise constant signal with `size` samples, fractional ends included.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certdicom.errors import UsageError

MAXIMUM_GRID = 4096
"""Rows and columns of the largest model grid; a larger one is a typing error."""


_STRIP_ROWS = 256

Grid = int | tuple[int, int]
"""Rows and columns of a model grid, one number for a square."""


def grid_shape(grid: Grid) -> tuple[int, int]:
    """Rows and columns of `grid`. UsageError unless they are whole numbers from 1 to MAXIMUM_GRID."""
    rows, columns = grid if isinstance(grid, tuple) and len(grid) == 2 else (grid, grid)
    return _checked_side(rows), _checked_side(columns)


def _checked_side(side: object) -> int:
    if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or not 1 <= side <= MAXIMUM_GRID:
        raise UsageError(f"the model grid must be a whole number from 1 to {MAXIMUM_GRID}, or two of them, not {side!r}")
    return int(side)


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise UsageError(f"rows and columns must be whole numbers of at least 1, not {size!r}")


def box_matrix(size: int, side: int) -> NDArray[np.float64]:
    """The averaging matrix (side, size) float64 along one axis; each row sums to 1."""
    _checked_side(side)
    _check_size(size)
    # In units of 1 / side sample, all ends of intervals are whole numbers: sample j is [j · side, (j + 1) · side),
    # cell i is [i · size, (i + 1) · size). So that the overlaps are exact.
    samples = np.arange(size + 1, dtype=np.int64) * side
    cells = np.arange(side + 1, dtype=np.int64) * size
    upper = np.minimum(cells[1:, None], samples[None, 1:])
    lower = np.maximum(cells[:-1, None], samples[None, :-1])
    return np.asarray(np.maximum(upper - lower, 0) / float(size))


def box_average(image: NDArray[np.number] | NDArray[np.bool_], grid: Grid) -> NDArray[np.float64]:
    """`image` (…, rows, columns) averaged to (…, H, W) float64: what the product with the `box_matrix` of each axis gives.

    By running sums, which are exact for whole numbers, in strips, since images are large.
    """
    height, width = grid_shape(grid)
    rows = image.shape[-2]
    across = np.empty((*image.shape[:-1], width))
    for first in range(0, rows, _STRIP_ROWS):
        across[..., first : first + _STRIP_ROWS, :] = _averaged(image[..., first : first + _STRIP_ROWS, :], width)
    return np.ascontiguousarray(np.swapaxes(_averaged(np.swapaxes(across, -1, -2), height), -1, -2))


def _averaged(values: NDArray[np.number] | NDArray[np.bool_], side: int) -> NDArray[np.float64]:
    """(…, size) averaged over `side` equal intervals of the last axis."""
    size = values.shape[-1]
    sums = np.zeros((*values.shape[:-1], size + 1))
    np.cumsum(values, axis=-1, dtype=np.float64, out=sums[..., 1:])
    ends = np.arange(side + 1, dtype=np.int64) * size
    whole, part = ends // side, (ends % side) / side
    at_ends = sums[..., whole]
    cut = part > 0
    at_ends[..., cut] += part[cut] * values[..., whole[cut]]
    return np.asarray(np.diff(at_ends, axis=-1) * (side / size))


@lru_cache(maxsize=64)
def spectral_norm(size: int, side: int) -> float:
    """‖A‖₂ of `box_matrix(size, side)`: the root of the largest eigenvalue of its smaller Gram matrix."""
    if size % side == 0:
        return math.sqrt(side / size)
    matrix = box_matrix(size, side)
    gram = matrix @ matrix.T if side <= size else matrix.T @ matrix
    return math.sqrt(float(np.linalg.eigvalsh(gram)[-1]))


def operator_norm(rows: int, columns: int, grid: Grid) -> float:
    """‖A‖₂ of the map from an image (rows, columns) to the grid, L2 to L2, whatever the number of channels.

    The map of one channel is the Kronecker product of two averaging matrices, so its norm is the product of theirs. Channels
    are mapped apart, by a block-diagonal matrix, whose norm is that of its largest block.
    """
    height, width = grid_shape(grid)
    return spectral_norm(rows, height) * spectral_norm(columns, width)


def cells(size: int, side: int) -> NDArray[np.int64]:
    """(size,) the grid cell that holds the centre of each stored pixel: floor((r + 0.5) · side / size)."""
    _checked_side(side)
    _check_size(size)
    return (2 * np.arange(size, dtype=np.int64) + 1) * side // (2 * size)
