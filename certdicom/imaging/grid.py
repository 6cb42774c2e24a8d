"""From an image to the model grid and back, with what a distance on the grid is worth in stored values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from certdicom.certification.certificate import Certificate, Window
from certdicom.certification.crop import Crop, Scalar
from certdicom.certification.window import Moments, WindowRule
from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.displayed import displayed_window, level_radius, require_moments
from certdicom.imaging.image import SourceImage
from certdicom.imaging.rendering import Levels, Presentation, Rendering
from certdicom.imaging.resampling import Grid, box_average, cells, grid_shape, operator_norm

__all__ = ["GridImage", "operator_norm", "to_film", "to_grid"]


_WHOLLY = 1e-9
"""A cell is wholly hidden but for rounding."""


@dataclass(frozen=True, eq=False)
class GridImage:
    """An image on the model grid.

    `u` (channels, H, W) float64 in [0, 1], 0 black; `window`: the stored values, or levels of a Modality LUT table, shown as 0 and 1, and
    where they were found; `native_unit` of the image's values; `rows`, `columns` of the image; `notes`: how anything odd in it was taken.
    """

    u: NDArray[np.float64]
    window: Window
    native_unit: str
    rows: int
    columns: int
    notes: tuple[str, ...]
    _levels_per_native: float
    """The largest change of the averages, over all channels, for a change of 1 in the native unit: ‖A‖₂ times the steepest step."""
    _width: float
    _open: NDArray[np.float64] | None
    """The cells of u whose moments the window was found by; None for a window that no pixel decides."""

    def native_radius(self, radius: float) -> float:
        """The L2 distance of images, in `native_unit`, that moves u by no more than `radius` (L2), the window found anew."""
        levels = radius * self._width if self._open is None else level_radius(self._open, self._width, radius)
        return levels / self._levels_per_native


def to_grid(image: SourceImage, grid: Grid, rule: WindowRule | None = None, crop: Crop | None = None) -> GridImage:
    """`image`, or the part of it that `crop` says, on the `grid`; see `on_grid`. ImageRefusedError for a crop that reaches beyond it."""
    planes, presentation = image.planes, image.presentation
    if crop is not None:
        crop.require_inside(image.rows, image.columns)
        planes, presentation = crop.of(planes), presentation.cropped(crop)
    return on_grid(planes, presentation, grid, rule, native_unit=image.native_unit, notes=image.notes)


def on_grid(
    planes: NDArray[np.integer],
    presentation: Presentation,
    grid: Grid,
    rule: WindowRule | None = None,
    *,
    native_unit: str = "stored values",
    notes: tuple[str, ...] = (),
) -> GridImage:
    """`planes` (channels, rows, columns) squashed to `grid` by exact box averaging of each, and shown by the window that `rule` says.

    Averages, window and u are float64. With a fixed window u = clip((A·x - lo) / (hi - lo)), and clipping is 1-Lipschitz; how far u moves
    under a displayed window, which is found anew in a changed image, `displayed.level_radius` bounds. Every channel has the same window and
    the same A, so that both hold for a distance over all channels together. Hidden pixels are black whatever they hold, and a cell with
    nothing else in it has no part in the moments. `imaging.monai_transforms` is the same in MONAI's form, bit for bit. UsageError for an
    impossible grid, ImageRefusedError for an image that has no such window.
    """
    grid = grid_shape(grid)
    rule = rule or WindowRule()
    rendering = presentation.fixed_by(rule)
    levels = presentation.levels if rendering is None else rendering.levels
    stored = levels.of(planes) if rendering is None else rendering.before_averaging(planes)
    averages = box_average(stored, grid)
    counted = None
    if rendering is None:
        counted = counted_cells(levels, grid)
        rendering, u = show_displayed(averages, levels, moments=rule.moments, counted=counted)
    else:
        u = rendering.after_averaging(averages)
    lo, hi = rendering.shown
    return GridImage(
        u=np.ascontiguousarray(u),
        window=rendering.window,
        native_unit=native_unit,
        rows=planes.shape[-2],
        columns=planes.shape[-1],
        notes=notes,
        _levels_per_native=levels.steepest * operator_norm(planes.shape[-2], planes.shape[-1], grid),
        _width=hi - lo,
        _open=None if counted is None else u[..., counted].ravel(),
    )


def show_displayed(
    averages: NDArray[np.float64], levels: Levels, *, moments: Moments, counted: NDArray[np.bool_]
) -> tuple[Rendering, NDArray[np.float64]]:
    """The displayed window of averages (channels, H, W) of levels, and u under it; `counted` (H, W): cells with a part in the moments."""
    cells = averages[..., counted].ravel()
    lo, hi = displayed_window(-cells if levels.inverted else cells, moments)
    if levels.inverted:
        lo, hi = -hi, -lo
    source = f"displayed, with a mean of {moments.mean:g} and a deviation of {moments.deviation:g} on the model grid"
    rendering = Rendering(window=Window(lo, hi, source, displayed=True), levels=levels)
    u = rendering.after_averaging(averages)
    u[..., ~counted] = 0.0
    require_moments(u[..., counted], moments)
    return rendering, u


def counted_cells(levels: Levels, grid: tuple[int, int]) -> NDArray[np.bool_]:
    """(H, W): the cells in which not everything is hidden."""
    if levels.hidden is None:
        return np.ones(grid, bool)
    counted = box_average(levels.hidden, grid) < 1 - _WHOLLY
    if not counted.any():
        raise ImageRefusedError("no cell of the model grid shows any of the image: there is nothing to certify")
    return np.asarray(counted)


def to_film(decisions: ArrayLike, *, rows: int, columns: int) -> NDArray[np.generic]:
    """A map (…, H, W) of any dtype → (…, rows, columns): each stored pixel takes the cell that holds its centre."""
    plane = np.asarray(decisions)
    if plane.ndim < 2 or not plane.size:
        raise UsageError(f"a decision map must end in rows and columns of the grid, not have the shape {plane.shape}")
    height, width = plane.shape[-2:]
    return np.asarray(plane[..., cells(rows, height)[:, None], cells(columns, width)[None, :]])


def spread_on(certificate: Certificate, grid_map: NDArray[Scalar], *, rows: int, columns: int, outside: int) -> NDArray[Scalar]:
    """A map (…, H, W) of a certificate's grid on its image: as `to_film` in the part that was looked at, and `outside` elsewhere."""
    crop = certificate.crop
    part = to_film(grid_map, rows=rows if crop is None else crop.rows, columns=columns if crop is None else crop.columns)
    return certificate.on_image(part.astype(grid_map.dtype, copy=False), rows=rows, columns=columns, outside=outside)
