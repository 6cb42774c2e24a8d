"""Bounds of measurements: whatever the abstained pixels really are, the true value lies within."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from certdicom.certification.certificate import ABSTAIN, PRESENT, IntervalCount
from certdicom.certification.intervals import IntervalRatio, area_bounds, cardiothoracic_ratio_bounds, width_bounds
from certdicom.errors import UsageError


def true_width(mask: np.ndarray, support: int) -> int:
    """Written for the eye, not for speed: the outermost columns that hold enough pixels."""
    columns = [column for column in range(mask.shape[1]) if sum(mask[:, column]) >= support]
    return max(columns) - min(columns) + 1 if columns else 0


def completed(planes: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """One mask per structure that agrees with every certified decision and takes `choices` where there is none."""
    return np.where(planes == ABSTAIN, choices, planes == PRESENT)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), structures=st.integers(2, 4), support=st.integers(1, 3))
def test_every_completion_of_random_decisions_lies_within_the_bounds(data, structures, support):
    shape = (structures, data.draw(st.integers(1, 5)), data.draw(st.integers(1, 7)))
    planes = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 2)))
    masks = completed(planes, data.draw(arrays(np.bool_, shape)))
    for plane, mask in zip(planes, masks, strict=True):
        bounds = area_bounds(plane)
        assert bounds.lower <= mask.sum() <= bounds.upper
    heart, thorax = width_bounds(planes[:1], support=support), width_bounds(planes[1:], support=support)
    heart_width, thorax_width = true_width(masks[0], support), true_width(masks[1:].any(axis=0), support)
    assert heart.lower <= heart_width <= heart.upper
    assert thorax.lower <= thorax_width <= thorax.upper
    ratio = cardiothoracic_ratio_bounds(heart=heart, thorax=thorax)
    if thorax_width:
        assert ratio is not None
        assert ratio.lower <= heart_width / thorax_width
        assert ratio.upper is None or heart_width / thorax_width <= ratio.upper


@pytest.mark.parametrize("seed", range(6))
def test_the_bounds_are_the_extremes_over_all_completions(seed):
    """Brute force over all completions of small maps: the bounds are attained, so they cannot be narrower."""
    random = np.random.default_rng(seed)
    planes = random.choice(np.array([0, 0, 1, 2], np.uint8), (2, 3, 4))
    if (planes == ABSTAIN).sum() > 10:
        planes[planes == ABSTAIN] = np.where(np.arange((planes == ABSTAIN).sum()) < 10, 2, 0)
    where = np.flatnonzero(planes == ABSTAIN)
    areas, widths, ratios = [], [], []
    for bits in itertools.product([False, True], repeat=len(where)):
        choices = np.zeros(planes.size, bool)
        choices[where] = bits
        heart, thorax = completed(planes, choices.reshape(planes.shape))
        areas.append(int(heart.sum()))
        widths.append((true_width(heart, 1), true_width(thorax, 1)))
        if widths[-1][1]:
            ratios.append(widths[-1][0] / widths[-1][1])
    bounds = area_bounds(planes[0])
    assert (bounds.lower, bounds.upper) == (min(areas), max(areas))
    heart, thorax = width_bounds(planes[:1]), width_bounds(planes[1:])
    assert (heart.lower, heart.upper) == (min(h for h, _ in widths), max(h for h, _ in widths))
    assert (thorax.lower, thorax.upper) == (min(t for _, t in widths), max(t for _, t in widths))
    ratio = cardiothoracic_ratio_bounds(heart=heart, thorax=thorax)
    if not ratios:
        assert ratio is None
        return
    assert ratio is not None
    assert ratio.lower == min(ratios)
    assert ratio.upper is None if thorax.lower == 0 else ratio.upper == max(ratios)


def test_a_stray_pixel_widens_the_chest_only_without_support():
    plane = np.zeros((20, 100), np.uint8)
    plane[5:15, 30:70] = PRESENT
    plane[2, 99] = ABSTAIN
    assert width_bounds([plane]) == IntervalCount(40, 70)
    assert width_bounds([plane], support=2) == IntervalCount(40, 40)


def test_what_has_no_bound_is_said_to_have_none():
    nothing, some = IntervalCount(0, 0), IntervalCount(3, 5)
    assert cardiothoracic_ratio_bounds(heart=some, thorax=nothing) is None
    assert cardiothoracic_ratio_bounds(heart=some, thorax=IntervalCount(0, 10)) == IntervalRatio(0.3, None)
    assert cardiothoracic_ratio_bounds(heart=nothing, thorax=some) == IntervalRatio(0.0, 0.0)
    assert cardiothoracic_ratio_bounds(heart=some, thorax=IntervalCount(10, 20)) == IntervalRatio(0.15, 0.5)


def test_impossible_requests_are_refused():
    plane = np.zeros((2, 2), np.uint8)
    with pytest.raises(UsageError, match="support"):
        width_bounds([plane], support=0)
    with pytest.raises(UsageError, match="at least one structure"):
        width_bounds([])
