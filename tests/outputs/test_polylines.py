"""Outlines enclose exactly the mask, and hatching crosses exactly every so many of its diagonals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from certdicom.outputs.polylines import hatching, outlines, pieces

MASKS = arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12))


@given(MASKS)
def test_outlines_enclose_the_mask_and_turn_at_every_point(mask):
    edges = np.zeros((mask.shape[0], mask.shape[1] + 1), int)
    for line in outlines(mask):
        assert (line[0] == line[-1]).all()
        steps = np.diff(line, axis=0)
        upright = steps[:, 0] == 0
        assert (upright != (steps[:, 1] == 0)).all()
        assert (upright[1:] != upright[:-1]).all()
        assert upright[0] != upright[-1]
        for (column, row), step in zip(line[:-1], steps[:, 1], strict=True):
            edges[min(row, row + step) : max(row, row + step), column] += 1
    assert edges.max(initial=0) <= 1
    np.testing.assert_array_equal(np.cumsum(edges, axis=1)[:, :-1] % 2 == 1, mask)


def test_pixels_that_touch_at_a_corner_have_outlines_of_their_own():
    for mask in (np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]):
        assert [len(line) for line in outlines(mask)] == [5, 5, 5]


def test_a_hole_has_an_outline():
    mask = np.ones((5, 7), bool)
    mask[2, 2:4] = False
    assert sorted(sorted(map(tuple, line.tolist()))[0] for line in outlines(mask)) == [(0, 0), (2, 2)]


@given(MASKS, st.integers(1, 9), st.integers(0, 8))
def test_hatching_crosses_every_so_many_diagonals_of_the_mask(mask, period, phase):
    crossed = np.zeros(mask.shape, int)
    for (column, row), (end, above) in hatching(mask, period=period, phase=phase):
        assert end - column == row - above > 0
        steps = np.arange(end - column)
        crossed[row - 1 - steps, column + steps] += 1
    row, column = np.indices(mask.shape)
    diagonal = row + column
    np.testing.assert_array_equal(crossed, mask & (diagonal >= phase) & ((diagonal - phase) % period == 0))


@pytest.mark.parametrize(("points", "lengths"), [(2, [2]), (10, [10]), (11, [10, 2]), (28, [10, 10, 10])])
def test_pieces_join_where_the_one_before_ends(points, lengths):
    line = np.arange(2 * points).reshape(points, 2)
    found = list(pieces(line, most=10))
    assert [len(piece) for piece in found] == lengths
    np.testing.assert_array_equal(np.concatenate([found[0], *(piece[1:] for piece in found[1:])]), line)
