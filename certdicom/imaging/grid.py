"""From an image to the model grid and back, with what a distance on the grid is worth in stored values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certdicom.certification.certificate import Window
from certdicom.errors import UsageError
from certdicom.imaging.image import SourceImage
from certdicom.imaging.resampling import Grid, box_average, cells, grid_shape, operator_norm

__all__ = ["GridImage", "operator_norm", "to_film", "to_grid"]


@dataclass(frozen=True, eq=False)
class GridImage:
    """An image on the model grid.

    `u` (channels, H, W) float32 in [0, 1], 0 black; `window`: the stored values shown as 0 and 1, and where they were found;
    `native_scale`: an L2 distance of 1 on the grid, over all of `u`, is at least this L2 distance of the image in `native_unit`;
    `rows`, `columns` of the image; `notes`: how anything odd in it was taken.
    """

    u: NDArray[np.float32]
    window: Window
    native_scale: float
    native_unit: str
    rows: int
    columns: int
    notes: tuple[str, ...] = ()


def to_grid(image: SourceImage, grid: Grid) -> GridImage:
    """`image` squashed to `grid` by exact box averaging of each channel, and shown as its rendering says.

    The native scale is (hi - lo) / ‖A‖₂ for a linear window, because u = clip((A·x - lo) / (hi - lo)) and clipping is
    1-Lipschitz; it is 1 / (L · ‖A‖₂) for another rendering whose steepest slope is L per stored value. Every channel has
    the same window and the same A, so that this holds for a distance over all channels together. Padding and a window that
    was taken from the pixels are held fixed. `imaging.monai_transforms` is the same preprocessing in MONAI's form, bit for bit. Raises
    UsageError for an impossible grid.
    """
    grid = grid_shape(grid)
    averages = box_average(image.rendering.before_averaging(image.planes), grid)
    return GridImage(
        u=np.ascontiguousarray(image.rendering.after_averaging(averages)),
        window=image.rendering.window,
        native_scale=1.0 / (image.rendering.steepest_slope * operator_norm(image.rows, image.columns, grid)),
        native_unit=image.native_unit,
        rows=image.rows,
        columns=image.columns,
        notes=image.notes,
    )


def to_film(decisions: ArrayLike, *, rows: int, columns: int) -> NDArray[np.generic]:
    """A map (…, H, W) of any dtype → (…, rows, columns): each stored pixel takes the cell that holds its centre."""
    plane = np.asarray(decisions)
    if plane.ndim < 2 or not plane.size:
        raise UsageError(f"a decision map must end in rows and columns of the grid, not have the shape {plane.shape}")
    height, width = plane.shape[-2:]
    return np.asarray(plane[..., cells(rows, height)[:, None], cells(columns, width)[None, :]])
