"""Scores of a certified segmentation against a reference mask (Laousy et al. 2023, and two stricter readings)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSTAIN, PRESENT


@dataclass(frozen=True)
class Score:
    """Dice and IoU of one structure in one image; None where the structure is in neither mask.

    `certified`: an abstained foreground pixel is missed, an abstained background pixel is free (the paper);
    `answered`: where it answers; `worst_case`: every abstained pixel is wrong; what counts as
    right, no attack within R turns round.
    """

    certified: tuple[float, float] | None
    answered: tuple[float, float] | None
    worst_case: tuple[float, float] | None


def score(decisions: NDArray[np.uint8], reference: NDArray[np.bool_]) -> Score:
    """Score one structure: `decisions` and `reference` of the same shape."""
    abstained = decisions == ABSTAIN
    present = decisions == PRESENT
    tp = int((present & reference).sum())
    wrong = int((present & ~reference).sum()) + int((~present & ~abstained & reference).sum())
    a_fg = int((abstained & reference).sum())
    a_bg = int((abstained & ~reference).sum())
    return Score(_dice_and_iou(tp, wrong + a_fg), _dice_and_iou(tp, wrong), _dice_and_iou(tp, wrong + a_fg + a_bg))


def _dice_and_iou(tp: int, wrong: int) -> tuple[float, float] | None:
    if tp + wrong == 0:
        return None
    return 2 * tp / (2 * tp + wrong), tp / (tp + wrong)
