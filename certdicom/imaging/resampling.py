"""Box averaging between a film and the square model grid: the matrices, their exact norm, and the cells.

`u = A_r · X · A_cᵀ` squashes a film `X` (rows, columns) to (G, G). Row `i` of a matrix averages the interval
`[i · size / G, (i + 1) · size / G)` of a piecewise constant signal with `size` samples, fractional ends included.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from certdicom.errors import UsageError

MAXIMUM_GRID = 4096
"""Rows and columns of the largest model grid; a larger one is a typing error."""


def check_grid(grid: int) -> None:
    """Raises UsageError unless `grid` is a whole number from 1 to MAXIMUM_GRID."""
    if isinstance(grid, bool) or not isinstance(grid, (int, np.integer)) or not 1 <= grid <= MAXIMUM_GRID:
        raise UsageError(f"the model grid must be a whole number from 1 to {MAXIMUM_GRID}, not {grid!r}")


def _check_size(size: int) -> None:
    if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 1:
        raise UsageError(f"rows and columns must be whole numbers of at least 1, not {size!r}")


def box_matrix(size: int, grid: int) -> NDArray[np.float64]:
    """The averaging matrix (grid, size) float64; each row sums to 1."""
    check_grid(grid)
    _check_size(size)
    # In units of 1 / grid sample, all ends of intervals are whole numbers: sample j is [j · grid, (j + 1) · grid),
    # cell i is [i · size, (i + 1) · size). So that the overlaps are exact.
    samples = np.arange(size + 1, dtype=np.int64) * grid
    cells = np.arange(grid + 1, dtype=np.int64) * size
    upper = np.minimum(cells[1:, None], samples[None, 1:])
    lower = np.maximum(cells[:-1, None], samples[None, :-1])
    return np.asarray(np.maximum(upper - lower, 0) / float(size))


def box_average(image: NDArray[np.floating], grid: int) -> NDArray[np.float32]:
    """`image` (rows, columns) averaged to (grid, grid) float32."""
    rows, columns = image.shape
    left = box_matrix(rows, grid).astype(np.float32)
    right = box_matrix(columns, grid).astype(np.float32)
    return np.asarray(left @ image.astype(np.float32, copy=False) @ right.T, dtype=np.float32)


@lru_cache(maxsize=64)
def spectral_norm(size: int, grid: int) -> float:
    """‖A‖₂ of `box_matrix(size, grid)`: the root of the largest eigenvalue of its smaller Gram matrix."""
    if size % grid == 0:
        return math.sqrt(grid / size)
    matrix = box_matrix(size, grid)
    gram = matrix @ matrix.T if grid <= size else matrix.T @ matrix
    return math.sqrt(float(np.linalg.eigvalsh(gram)[-1]))


def operator_norm(rows: int, columns: int, grid: int) -> float:
    """‖A‖₂ of the map from a film (rows, columns) to the grid, L2 to L2.

    The map is the Kronecker product of two averaging matrices, so its norm is the product of theirs.
    """
    return spectral_norm(rows, grid) * spectral_norm(columns, grid)


def cells(size: int, grid: int) -> NDArray[np.int64]:
    """(size,) the grid cell that holds the centre of each stored pixel: floor((r + 0.5) · grid / size)."""
    check_grid(grid)
    _check_size(size)
    return (2 * np.arange(size, dtype=np.int64) + 1) * grid // (2 * size)
