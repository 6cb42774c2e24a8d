"""One image with its masks, as stored and on a model's grid."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Window
from certdicom.certification.window import WindowRule
from certdicom.errors import UsageError
from certdicom.imaging.grid import GridImage, on_grid
from certdicom.imaging.rendering import Levels, Presentation, Rendering
from certdicom.imaging.resampling import box_average


@dataclass(frozen=True, eq=False)
class GridPicture:
    """An image on a model grid.

    `u` (channels, rows, columns) float64 in [0, 1]; `masks` (structures, rows, columns) bool; `known` (structures,) bool, False
    where there is no reference; `unsure` (structures, rows, columns) bool: where the mask is a pseudo-label that says nothing, all of it
    where there is no mask; `shown`: the image as it lies in u, once or in `copies`.
    """

    u: NDArray[np.float64]
    masks: NDArray[np.bool_]
    known: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    shown: GridImage
    copies: int = 1

    def native_radius(self, radius: float) -> float:
        """The L2 distance, in stored values, that moves u by no more than `radius` (L2): of copies, each has its share."""
        return self.shown.native_radius(radius / sqrt(self.copies))


@dataclass(frozen=True, eq=False)
class Picture:
    """An image as stored: (channels, rows, columns) int32, 1 channel for gray, 3 for RGB; how it can be shown; its masks.

    `masks`: structure → bool (rows, columns), at their own size, which may be another than the image's. Those that are pseudo-labels have
    their `unsure` pixels as well: a network's answers to learn from, never a reference.
    """

    stored: NDArray[np.int32]
    presentation: Presentation
    masks: Mapping[str, NDArray[np.bool_]]
    unsure: Mapping[str, NDArray[np.bool_]] = field(default_factory=dict)

    def on_grid(self, grid: tuple[int, int], *, channels: int, structures: Sequence[str], rule: WindowRule | None = None) -> GridPicture:
        """The image squashed to `grid` (rows, columns) and shown as a film is (`imaging.grid`); a mask cell is on when half of it is.

        A gray image is repeated for a model of 3 channels. UsageError for a colour image and a gray model.
        """
        own = len(self.stored)
        if own > channels:
            raise UsageError(f"the image has {own} channels and the model {channels}: choose a bundle for colour images")
        shown = on_grid(self.stored, self.presentation, grid, rule)
        masks = np.zeros((len(structures), *grid), bool)
        unsure = np.ones_like(masks)
        for index, name in enumerate(structures):
            if name in self.masks:
                masks[index] = box_average(self.masks[name], grid) >= 0.5 - 1e-6
                unsure[index] = name in self.unsure and box_average(self.unsure[name], grid) >= 0.5 - 1e-6
        return GridPicture(
            u=np.concatenate([shown.u] * (channels // own)),
            masks=masks,
            known=np.array([name in self.masks and name not in self.unsure for name in structures]),
            unsure=unsure,
            shown=shown,
            copies=channels // own,
        )


def gray_picture(
    levels: NDArray[np.int32],
    masks: Mapping[str, NDArray[np.bool_]],
    unsure: Mapping[str, NDArray[np.bool_]] | None = None,
    *,
    bits: int,
    inverted: bool = False,
) -> Picture:
    """A film (rows, columns) without a window of its own: all that `bits` can hold; `inverted`: the larger value is the darker."""
    return Picture(levels[None], _full_range(bits, is_film=True, inverted=inverted), masks, unsure or {})


def colour_picture(
    pixels: NDArray[np.integer], masks: Mapping[str, NDArray[np.bool_]], unsure: Mapping[str, NDArray[np.bool_]] | None = None
) -> Picture:
    """A photograph (rows, columns, 3) of 8 bits."""
    return Picture(np.ascontiguousarray(np.moveaxis(pixels, -1, 0), dtype=np.int32), _full_range(8, is_film=False), masks, unsure or {})


def _full_range(bits: int, *, is_film: bool, inverted: bool = False) -> Presentation:
    window = Window(0.0, float((1 << bits) - 1), f"the full range of {bits} bits")
    black = window.hi if inverted else window.lo
    return Presentation.always(Rendering(window=window, levels=Levels(inverted=inverted, black=black)), is_film=is_film)
