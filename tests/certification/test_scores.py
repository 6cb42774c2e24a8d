"""The three readings of Dice and IoU, worked out by hand."""

from __future__ import annotations

from itertools import combinations

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


def test_the_worst_case_holds_whichever_certificates_k_fwer_lets_be_wrong() -> None:
    """Against every choice of up to two wrong certificates and every fate of the abstained pixel."""
    decisions, reference = np.array([1, 1, 1, 0, 0, 2], np.uint8), np.array([1, 1, 0, 0, 1, 0], bool)

    def dice(present: np.ndarray) -> float:
        return 2 * (present & reference).sum() / (present.sum() + reference.sum())

    for allowed in range(3):
        fates = []
        for wrong in combinations(range(5), allowed):
            for abstained in (False, True):
                present = np.append(decisions[:5] == PRESENT, abstained)
                present[list(wrong)] ^= True
                fates.append(dice(present))
        assert score(decisions, reference, wrong_allowed=allowed).worst_case[0] == pytest.approx(min(fates))
        assert score(decisions, reference, wrong_allowed=allowed).certified == score(decisions, reference).certified
    nothing = np.zeros(4, np.uint8)
    assert score(nothing, nothing.astype(bool)).worst_case is None
    assert score(nothing, nothing.astype(bool), wrong_allowed=1).worst_case == (0.0, 0.0), "there may be something"
