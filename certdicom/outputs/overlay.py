"""Outlines and hatching over a film or photograph, visible on black lung and on white bone alike."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from certdicom.outputs.palette import ABSTAIN, RGB

Canvas = NDArray[np.uint8]
Mask = NDArray[np.bool_]

OUTLINE = 3
CASING = 2
HATCH_PERIOD = 12
HATCH_STROKE = 3


def canvas_of(display: NDArray[np.float32], *, long_side: int) -> Canvas:
    """The image as uint8 (rows, columns, 3) with its longer side of so many pixels.

    `display` (any rows, any columns) gray, or (any rows, any columns, 3) colour, in [0, 1]; what lies outside is clipped.
    """
    shown = np.rint(np.clip(np.nan_to_num(display), 0.0, 1.0) * 255).astype(np.uint8)
    scale = long_side / max(shown.shape[:2])
    rows, columns = (max(1, round(size * scale)) for size in shown.shape[:2])
    method = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    resized = Image.fromarray(shown).resize((columns, rows), method, reducing_gap=3.0)
    return np.array(resized.convert("RGB"))


def resize_nearest(decisions: NDArray[np.uint8], *, rows: int, columns: int) -> NDArray[np.uint8]:
    """Decision maps (structures, any rows, any columns) at another size; every pixel takes the value under its centre."""
    row = ((np.arange(rows) + 0.5) * decisions.shape[1] / rows).astype(np.intp)
    column = ((np.arange(columns) + 0.5) * decisions.shape[2] / columns).astype(np.intp)
    return np.asarray(decisions[:, row[:, np.newaxis], column[np.newaxis, :]])


def draw_outlines(canvas: Canvas, masks: Sequence[Mask], colours: Sequence[RGB]) -> None:
    """Draw the inner border of every mask in its colour, cased in black; all casings lie below all colours."""
    borders = [inner_border(mask, OUTLINE) for mask in masks]
    for border in borders:
        _blend(canvas, ndimage.binary_dilation(border, iterations=CASING) & ~border, (0, 0, 0), 0.65)
    for border, colour in zip(borders, colours, strict=True):
        _blend(canvas, border, colour, 1.0)


def draw_hatch(canvas: Canvas, mask: Mask) -> None:
    """Hatch `mask` diagonally in yellow and black and edge it, so that a band of a few pixels is still seen as hatched."""
    row, column = np.ogrid[: mask.shape[0], : mask.shape[1]]
    phase = (row + column) % HATCH_PERIOD
    _blend(canvas, mask & (phase < HATCH_STROKE), ABSTAIN, 0.95)
    _blend(canvas, mask & (phase >= HATCH_STROKE) & (phase < 2 * HATCH_STROKE), (0, 0, 0), 0.7)
    edge = inner_border(mask, 1)
    _blend(canvas, ndimage.binary_dilation(edge) & ~mask, (0, 0, 0), 0.65)
    _blend(canvas, edge, ABSTAIN, 0.95)


def draw_tint(canvas: Canvas, mask: Mask, colour: RGB) -> None:
    """Fill `mask` so that the film is still seen through, and edge it."""
    _blend(canvas, mask, colour, 0.75)
    _blend(canvas, ndimage.binary_dilation(mask) & ~mask, (0, 0, 0), 0.65)


def draw_wash(canvas: Canvas, mask: Mask, colour: RGB) -> None:
    """Colour `mask` so thinly that the film can be read through it."""
    _blend(canvas, mask, colour, 0.25)


def draw_checks(canvas: Canvas, mask: Mask, colour: RGB) -> None:
    """Fill `mask` with a chequered pattern of `colour` and black."""
    row, column = np.ogrid[: mask.shape[0], : mask.shape[1]]
    dark = (row // HATCH_STROKE + column // HATCH_STROKE) % 2 == 0
    _blend(canvas, mask & ~dark, colour, 0.95)
    _blend(canvas, mask & dark, (0, 0, 0), 0.7)


def inner_border(mask: Mask, width: int) -> Mask:
    """The pixels of `mask` (rows, columns) along its border, so many wide.

    The film's edge counts as inside, or a structure cut by it would seem to end there.
    """
    return np.asarray(mask & ~ndimage.binary_erosion(mask, iterations=width, border_value=1))


def _blend(canvas: Canvas, mask: Mask, colour: RGB, opacity: float) -> None:
    under = canvas[mask].astype(np.float32)
    canvas[mask] = np.rint(under * (1 - opacity) + np.asarray(colour, np.float32) * opacity).astype(np.uint8)
