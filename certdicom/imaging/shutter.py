"""The display shutter of an image (PS3.3 C.7.6.11): what lies behind it is not shown to a reader, and not to the model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header


def shutter_of(dataset: Dataset, *, rows: int, columns: int) -> tuple[NDArray[np.bool_] | None, tuple[str, ...]]:
    """Which pixels lie behind the shutter (rows, columns), None where none do; and a note of it, or of a shutter that cannot be used.

    A pixel is shown where all of the shutter's shapes show it. ImageRefusedError for a shutter that shows nothing.
    """
    usable, notes = _usable_shapes(dataset, rows, columns)
    shown = np.ones((rows, columns), bool)
    for mask in usable.values():
        shown &= mask
    if not shown.any():
        raise ImageRefusedError("the display shutter hides the whole image: correct the Shutter attributes")
    if shown.all():
        return None, notes
    return ~shown, (*notes, f"{1 - shown.mean():.1%} of the pixels lie behind the display shutter and were held black")


def shutter_elements(dataset: Dataset, *, rows: int, columns: int) -> Dataset:
    """The attributes of the shutter's usable shapes, in whole pixels as the standard has them; empty where there are none."""
    elements = Dataset()
    if usable := _usable_shapes(dataset, rows, columns)[0]:
        elements.ShutterShape = list(usable)
        for keyword in (keyword for shape in usable for keyword in _KEYWORDS[shape]):
            setattr(elements, keyword, [round(value) for value in header.numbers(dataset, keyword)])
    return elements


def _usable_shapes(dataset: Dataset, rows: int, columns: int) -> tuple[dict[str, NDArray[np.bool_]], tuple[str, ...]]:
    """What each shape shows (rows, columns), and a note of each that cannot be used."""
    usable, notes = {}, []
    for shape in header.texts(dataset, "ShutterShape"):
        make = _SHAPES.get(shape)
        try:
            if make is not None:
                usable[shape] = make(dataset, rows, columns)
                continue
            reason = f"{header.told(shape)} is not RECTANGULAR, CIRCULAR or POLYGONAL"
        except (ImageRefusedError, ValueError):
            reason = f"its attributes make no {shape.lower()} shape"
        notes.append(f"the display shutter was not used: {reason}")
    return usable, tuple(notes)


def _rectangle(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_]:
    """The edges are rows and columns that are shown, counted from 1."""
    left, right, upper, lower = (_numbers(dataset, keyword, count=1)[0] for keyword in _KEYWORDS["RECTANGULAR"])
    if left > right or upper > lower:
        raise ValueError("the edges are exchanged")
    row, column = _pixels(rows, columns)
    return (upper <= row) & (row <= lower) & (left <= column) & (column <= right)


def _circle(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_]:
    """The centre is given as row and column; the radius in pixels of the display, which are square."""
    (middle_row, middle_column), (radius,) = (
        _numbers(dataset, "CenterOfCircularShutter", count=2),
        _numbers(dataset, "RadiusOfCircularShutter", count=1),
    )
    if radius <= 0:
        raise ValueError("there is no radius")
    row, column = _pixels(rows, columns)
    return np.asarray((row - middle_row) ** 2 + (column - middle_column) ** 2 <= radius**2)


def _polygon(dataset: Dataset, rows: int, columns: int) -> NDArray[np.bool_]:
    """The vertices are rows and columns in turn; the inside is what a line to it from outside enters an odd number of times."""
    flat = header.numbers(dataset, "VerticesOfThePolygonalShutter")
    if len(flat) < 6 or len(flat) % 2:
        raise ValueError("three vertices are needed")
    vertices = np.reshape(flat, (-1, 2))
    row, column = _pixels(rows, columns)
    inside = np.zeros((rows, columns), bool)
    for (row_a, column_a), (row_b, column_b) in zip(vertices, np.roll(vertices, -1, axis=0), strict=True):
        if row_a != row_b:
            crosses = (row_a > row) != (row_b > row)
            inside ^= crosses & (column < column_a + (row - row_a) * (column_b - column_a) / (row_b - row_a))
    return inside


def _pixels(rows: int, columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(rows, 1) and (1, columns): the numbers of all rows and columns, from 1."""
    return np.arange(1, rows + 1)[:, None], np.arange(1, columns + 1)[None, :]


def _numbers(dataset: Dataset, keyword: str, *, count: int) -> tuple[float, ...]:
    found = header.numbers(dataset, keyword)
    if len(found) != count:
        raise ValueError(f"{keyword} has {len(found)} values")
    return found


_SHAPES: Final[Mapping[str, Callable[[Dataset, int, int], NDArray[np.bool_]]]] = {
    "RECTANGULAR": _rectangle,
    "CIRCULAR": _circle,
    "POLYGONAL": _polygon,
}

_KEYWORDS: Final[Mapping[str, tuple[str, ...]]] = {
    "RECTANGULAR": tuple(f"Shutter{edge}Edge" for edge in ("LeftVertical", "RightVertical", "UpperHorizontal", "LowerHorizontal")),
    "CIRCULAR": ("CenterOfCircularShutter", "RadiusOfCircularShutter"),
    "POLYGONAL": ("VerticesOfThePolygonalShutter",),
}
"""Of which attributes each shape is made."""
