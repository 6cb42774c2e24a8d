"""Masks as lines: outlines along the edges of pixels, and hatching.

Points are (column, row) in the image's own pixels, where (0, 0) is the top left corner of the first pixel and (columns, rows) the bottom
right corner of the last: PIXEL units of a presentation state (PS3.3 C.10.5.1.2).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Polyline = NDArray[np.int64]
"""(points, 2): column and row of each."""


def outlines(mask: NDArray[np.bool_]) -> Iterator[Polyline]:
    """The closed outlines of a mask (rows, columns), of its holes too: corners only, the first again at the end.

    Pixels that touch at a corner alone have outlines of their own there. An outline turns at every corner, from an edge along a row to one
    along a column; sorted along its row, or its column, each corner is joined to the next.
    """
    padded = np.pad(mask, 1)
    upper_left, upper_right, lower_left, lower_right = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    falling = upper_left & lower_right & ~upper_right & ~lower_left
    rising = upper_right & lower_left & ~upper_left & ~lower_right
    turns = (upper_left ^ upper_right ^ lower_left ^ lower_right).astype(np.intp)
    turns[falling | rising] = 2
    row, column = np.nonzero(turns)
    place = np.repeat(np.arange(len(row)), turns[row, column])
    row, column = row[place], column[place]
    second = np.append(False, place[1:] == place[:-1]) if len(place) else np.zeros(0, bool)
    # The first of two turns at one place has the edge to its left; where the mask rises from there, its other edge is the lower one.
    order = np.lexsort((second ^ rising[row, column], row, column))
    along_column = np.empty(len(order), np.intp)
    along_column[order[0::2]], along_column[order[1::2]] = order[1::2], order[0::2]
    yield from _walks(np.stack([column, row], axis=1), along_column.tolist())


def _walks(corners: Polyline, along_column: list[int]) -> Iterator[Polyline]:
    """The closed walks over corners, which are in the order of their rows, so that those of a row are joined as 0 and 1, 2 and 3, …"""
    seen = bytearray(len(along_column))
    for start in range(len(along_column)):
        walk = []
        corner = start
        while not seen[corner]:
            beside = corner ^ 1
            seen[corner] = seen[beside] = True
            walk += [corner, beside]
            corner = along_column[beside]
        if walk:
            yield corners[[*walk, start]]


def pieces(line: Polyline, *, most: int) -> Iterator[Polyline]:
    """A polyline in pieces of at most `most` points, each beginning where the one before ends."""
    for first in range(0, max(1, len(line) - 1), most - 1):
        yield line[first : first + most]


def hatching(mask: NDArray[np.bool_], *, period: int, phase: int = 0) -> Iterator[Polyline]:
    """Rising diagonals of 2 points through a mask (rows, columns), every `period` pixels along a row, the first at `phase`."""
    rows, columns = mask.shape
    for diagonal in range(phase, rows + columns - 1, period):
        lowest, highest = min(diagonal, rows - 1), max(0, diagonal - columns + 1)
        row = np.arange(lowest, highest - 1, -1)
        inside = np.concatenate([[False], mask[row, diagonal - row], [False]])
        ends = np.flatnonzero(inside[1:] != inside[:-1])
        for begin, end in zip(ends[0::2], ends[1::2], strict=True):
            row_below, row_above = lowest - begin + 1, lowest - end + 1
            yield np.array([[diagonal + 1 - row_below, row_below], [diagonal + 1 - row_above, row_above]])
