"""From a film to the model grid and back, with what a distance on the grid is worth in stored values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certdicom.certification.certificate import Window
from certdicom.errors import UsageError
from certdicom.imaging.radiograph import Radiograph
from certdicom.imaging.resampling import cells, check_grid, operator_norm

__all__ = ["GridImage", "operator_norm", "to_film", "to_grid"]

NATIVE_UNIT = "stored values"


@dataclass(frozen=True, eq=False)
class GridImage:
    """A film on the model grid.

    `u` (1, G, G) float32 in [0, 1], 0 black; `window`: the stored values shown as 0 and 1, and where they were found;
    `native_scale`: an L2 distance of 1 on the grid is at least this L2 distance of the film in `native_unit`;
    `rows`, `columns` of the film; `notes`: how anything odd in the film was taken.
    """

    u: NDArray[np.float32]
    window: Window
    native_scale: float
    rows: int
    columns: int
    native_unit: str = NATIVE_UNIT
    notes: tuple[str, ...] = ()

    @property
    def grid(self) -> int:
        """G: rows and columns of the model grid."""
        return int(self.u.shape[-1])


def to_grid(film: Radiograph, grid: int) -> GridImage:
    """`film` squashed to `grid` × `grid` by exact box averaging and shown as its rendering says.

    The native scale is (hi - lo) / ‖A‖₂ for a linear window, because u = clip((A·x - lo) / (hi - lo)) and clipping is
    1-Lipschitz; it is 1 / (L · ‖A‖₂) for another rendering whose steepest slope is L per stored value. Padding and a
    window that was taken from the pixels are held fixed. Imports MONAI. Raises UsageError for an impossible grid.
    """
    check_grid(grid)
    from certdicom.imaging.transforms import film_to_grid  # here, because it loads torch and MONAI

    u = film_to_grid(film.rendering, grid=grid)(film.stored_values[None])
    return GridImage(
        u=np.ascontiguousarray(u.as_tensor().numpy()),
        window=film.rendering.window,
        native_scale=1.0 / (film.rendering.steepest_slope * operator_norm(film.rows, film.columns, grid)),
        rows=film.rows,
        columns=film.columns,
        notes=film.notes,
    )


def to_film(decisions: ArrayLike, *, rows: int, columns: int) -> NDArray[np.generic]:
    """A map (…, G, G) of any dtype → (…, rows, columns): each stored pixel takes the cell that holds its centre."""
    plane = np.asarray(decisions)
    if plane.ndim < 2 or plane.shape[-1] != plane.shape[-2]:
        raise UsageError(f"a decision map must end in two equal sides, not {plane.shape}")
    grid = int(plane.shape[-1])
    return np.asarray(plane[..., cells(rows, grid)[:, None], cells(columns, grid)[None, :]])
