"""One image with its masks, as stored and on a model's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Window
from certdicom.errors import UsageError
from certdicom.imaging.rendering import Rendering
from certdicom.imaging.resampling import box_average, operator_norm

REFERENCE_GRID = 256
"""Percentiles are taken of the film averaged to this grid, so that it has one window whatever the model's grid."""

WINDOW_SOURCE = "percentiles 1-99 of the film (held fixed)"
FULL_RANGE = "the full range of 8 bits"


@dataclass(frozen=True, eq=False)
class GridPicture:
    """An image on a model grid.

    `u` (channels, rows, columns) float32 in [0, 1]; `masks` (structures, rows, columns) bool; `known` (structures,) bool, False
    where there is no reference; `native_scale`: an L2 distance of 1 on the grid is at least this in stored values of the image.
    """

    u: NDArray[np.float32]
    masks: NDArray[np.bool_]
    known: NDArray[np.bool_]
    native_scale: float


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as stored: (channels, rows, columns) int32, 1 channel for gray, 3 for RGB; how it is shown; its masks.

    `masks`: structure → bool (rows, columns), at their own size, which may be another than the image's.
    """

    stored: NDArray[np.int32]
    rendering: Rendering
    masks: Mapping[str, NDArray[np.bool_]]

    def on_grid(self, grid: tuple[int, int], *, channels: int, structures: Sequence[str]) -> GridPicture:
        """The image squashed to `grid` (rows, columns) by exact box averaging, and shown; a mask cell is on when half of it is.

        A gray image is repeated for a model of 3 channels, which divides the native scale by √3. UsageError for a colour
        image and a gray model.
        """
        own = len(self.stored)
        if own > channels:
            raise UsageError(f"the image has {own} channels and the model {channels}: choose a bundle for colour images")
        shown = self.rendering.after_averaging(box_average(self.rendering.before_averaging(self.stored), grid))
        u = np.concatenate([shown] * (channels // own))
        masks = np.zeros((len(structures), *grid), bool)
        for index, name in enumerate(structures):
            if name in self.masks:
                masks[index] = box_average(self.masks[name].astype(np.float32), grid) >= 0.5 - 1e-6
        rows, columns = self.stored.shape[-2:]
        norm = operator_norm(rows, columns, grid)
        scale = 1.0 / (self.rendering.steepest_slope * norm) / sqrt(channels / own)
        return GridPicture(u=u, masks=masks, known=np.array([name in self.masks for name in structures]), native_scale=scale)


def gray_picture(levels: NDArray[np.int32], masks: Mapping[str, NDArray[np.bool_]], *, inverted: bool = False) -> Picture:
    """A film (rows, columns) without a window of its own: its 1st and 99th percentile; `inverted`: the larger value is the darker."""
    lo, hi = (float(value) for value in np.percentile(box_average(levels, (REFERENCE_GRID, REFERENCE_GRID)), (1.0, 99.0)))
    window = Window(lo, hi if hi > lo else lo + 1.0, WINDOW_SOURCE)  # a blank film stays blank
    return Picture(stored=levels[None], rendering=Rendering(window=window, inverted=inverted), masks=masks)


def colour_picture(pixels: NDArray[np.integer], masks: Mapping[str, NDArray[np.bool_]]) -> Picture:
    """A photograph (rows, columns, 3) of 8 bits."""
    stored = np.ascontiguousarray(np.moveaxis(pixels, -1, 0), dtype=np.int32)
    return Picture(stored=stored, rendering=Rendering(window=Window(0.0, 255.0, FULL_RANGE)), masks=masks)
