"""The three readings of Dice and IoU, worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from certdicom.certification.certificate import PRESENT
from certdicom.certification.scores import score


def test_scores_by_hand() -> None:
    #           TP FP FN TN A_fg A_bg A_bg
    decisions = np.array([1, 1, 0, 0, 2, 2, 2], np.uint8)
    reference = np.array([1, 0, 1, 0, 1, 0, 0], bool)
    result = score(decisions, reference)
    assert result.certified == pytest.approx((2 / (2 + 2 + 1), 1 / (1 + 2 + 1)))
    assert result.answered == pytest.approx((2 / (2 + 2), 1 / (1 + 2)))
    assert result.worst_case == pytest.approx((2 / (2 + 2 + 3), 1 / (1 + 2 + 3)))


def test_a_structure_absent_from_both_is_no_score() -> None:
    result = score(np.zeros((4, 4), np.uint8), np.zeros((4, 4), bool))
    assert (result.certified, result.answered, result.worst_case) == (None, None, None)


def test_everything_abstained_is_nothing_found() -> None:
    result = score(np.full(4, 2, np.uint8), np.ones(4, bool))
    assert result.certified == (0, 0)


def test_the_worst_case_is_the_worst_fate_of_the_abstained_pixels() -> None:
    decisions, reference = np.array([1, 1, 1, 0, 0, 2, 2], np.uint8), np.array([1, 1, 0, 0, 1, 0, 1], bool)

    def dice(abstained: tuple[bool, bool]) -> float:
        present = np.append(decisions[:5] == PRESENT, abstained)
        return 2 * (present & reference).sum() / (present.sum() + reference.sum())

    assert score(decisions, reference).worst_case[0] == pytest.approx(min(map(dice, product((False, True), repeat=2))))
