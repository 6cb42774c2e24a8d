"""Names written on the film, so that nobody has to look from an outline to the legend and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from certdicom.outputs.overlay import Mask
from certdicom.outputs.palette import RGB

NAME_SIZE = 30
_LONGEST_NAME = 24
_PART = 0.25
"""A part of a structure has a name of its own when it has this share of the largest part's pixels."""
_COARSE = 350
_REACH = 110
"""How far from the place that it names a name with a pointer stands, in pixels."""


def write_names(picture: Image.Image, masks: Sequence[Mask], names: Sequence[str], colours: Sequence[RGB]) -> None:
    """Write each name into its mask (rows, columns), in its colour with a black rim; into both lungs, if there are two."""
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=NAME_SIZE)
    for mask, name, colour in zip(masks, names, colours, strict=True):
        for row, column in inner_places(mask):
            draw.text((column, row), _shortened(name), font=font, fill=colour, anchor="mm", stroke_width=3, stroke_fill=(0, 0, 0))


def point_at(picture: Image.Image, mask: Mask, name: str, colour: RGB, *, avoid: Mask) -> None:
    """Write `name` beside the thickest place of `mask` with a line to it, where it hides least of `avoid`; nothing for an empty mask."""
    place = next(inner_places(mask), None)
    if place is None:
        return
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(size=NAME_SIZE)
    left, top, right, bottom = font.getbbox(name)
    half = np.array([(bottom - top) / 2 + 8, (right - left) / 2 + 10])
    centres = [np.asarray(place) + (_REACH + half[1] * abs(np.sin(turn))) * np.array([-np.cos(turn), np.sin(turn)]) for turn in _turns()]
    inside = [centre for centre in centres if _fits(centre, half, mask.shape)]
    if not inside:
        return
    centre = min(inside, key=lambda candidate: _hidden(candidate, half, avoid))
    start, end = (float(centre[1]), float(centre[0])), (float(place[1]), float(place[0]))
    draw.line([start, end], fill=(0, 0, 0), width=7)
    draw.line([start, end], fill=colour, width=3)
    box = [float(centre[1] - half[1]), float(centre[0] - half[0]), float(centre[1] + half[1]), float(centre[0] + half[0])]
    draw.rounded_rectangle(box, radius=6, fill=(0, 0, 0), outline=colour, width=2)
    draw.text(start, name, font=font, fill=colour, anchor="mm")


def inner_places(mask: Mask) -> Iterator[tuple[int, int]]:
    """(row, column) furthest from the edge of each large part of the mask, the largest part first."""
    step = max(1, max(mask.shape) // _COARSE)
    coarse = mask[::step, ::step]  # a name needs no finer place, and distances cost time
    if not coarse.any():
        step, coarse = 1, mask
    parts, count = ndimage.label(coarse)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    boxes = ndimage.find_objects(parts)
    for part in np.argsort(-sizes, kind="stable"):
        if sizes[part] < _PART * sizes.max():
            return
        rows, columns = boxes[part]
        depth = ndimage.distance_transform_edt(np.pad(parts[rows, columns] == part + 1, 1))[1:-1, 1:-1]
        row, column = np.unravel_index(int(depth.argmax()), depth.shape)
        yield (int(row) + rows.start) * step, (int(column) + columns.start) * step


def _turns() -> NDArray[np.float64]:
    return np.arange(16) * np.pi / 8


def _fits(centre: NDArray[np.float64], half: NDArray[np.float64], shape: tuple[int, ...]) -> bool:
    return bool((centre - half >= 4).all() and (centre + half <= np.asarray(shape[:2]) - 4).all())


def _hidden(centre: NDArray[np.float64], half: NDArray[np.float64], avoid: Mask) -> int:
    top, left = (int(value) for value in centre - half)
    bottom, right = (int(value) for value in centre + half)
    return int(avoid[top:bottom, left:right].sum())


def _shortened(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
