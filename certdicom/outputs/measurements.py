"""What a report measures: bounds on the film, in millimetres where the film states a spacing, rounded outwards.

The numbers are exact until they are rounded: pixel counts times decimal strings. A lower bound is rounded down and an upper
bound up, to two decimals and no more: viewers show two, and would round a longer bound to the wrong side.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Final

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, Certificate, IntervalCount
from certdicom.certification.intervals import area_bounds, cardiothoracic_ratio_bounds, width_bounds
from certdicom.imaging.plane import PixelSpacing
from certdicom.outputs import codes

_HUNDREDTH: Final = Decimal("0.01")


@dataclass(frozen=True)
class Bounds:
    """A guaranteed interval in `unit`."""

    lower: float
    upper: float
    unit: codes.Concept


@dataclass(frozen=True)
class Widths:
    """The heart's and the inner thorax's width and their ratio; `ratio` None where there can be no thorax.

    The ratio's `upper` is infinite where nothing bounds it from above.
    `heart_columns`, `thorax_columns`: the same widths in columns of the film.
    """

    heart: Bounds
    thorax: Bounds
    ratio: Bounds | None
    heart_columns: IntervalCount
    thorax_columns: IntervalCount


def structure_area(plane: NDArray[np.uint8], spacing: PixelSpacing) -> Bounds:
    """Bounds of one structure's area; `plane` (rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN."""
    pixels = area_bounds(plane)
    if spacing.keyword is None:
        return Bounds(float(pixels.lower), float(pixels.upper), codes.PIXELS)
    one = Decimal(spacing.row) * Decimal(spacing.column)
    return Bounds(_down(pixels.lower * one, _HUNDREDTH), _up(pixels.upper * one, _HUNDREDTH), codes.SQUARE_MILLIMETER)


def mask_area(mask: NDArray[np.bool_], spacing: PixelSpacing) -> Bounds:
    """The area of a mask (rows, columns), for which lower and upper bound differ by rounding alone."""
    return structure_area(np.where(mask, PRESENT, ABSENT).astype(np.uint8), spacing)


def column_support(rows: int) -> int:
    """How many pixels a column must hold to count for a width: a hundredth of the film's rows, at least one."""
    return max(1, -(-rows // 100))


def structure_widths(decisions: NDArray[np.uint8], certificate: Certificate, spacing: PixelSpacing) -> Widths | None:
    """The widths that make the cardiothoracic ratio; None where the bundle has no heart or no lungs.

    `decisions` (structures, rows, columns) uint8, of the film's size.
    """
    heart = [plane for plane, structure in _planes(decisions, certificate) if structure == codes.HEART[:2]]
    lungs = [plane for plane, structure in _planes(decisions, certificate) if structure in codes.LUNGS]
    if not heart or not lungs:
        return None
    support = column_support(decisions.shape[1])
    heart_columns, thorax_columns = width_bounds(heart, support=support), width_bounds(lungs, support=support)
    ratio = cardiothoracic_ratio_bounds(heart=heart_columns, thorax=thorax_columns)
    rounded = None
    if ratio is not None:
        upper = math.inf if ratio.upper is None else _up(Decimal(heart_columns.upper) / thorax_columns.lower, _HUNDREDTH)
        rounded = Bounds(_down(Decimal(heart_columns.lower) / thorax_columns.upper, _HUNDREDTH), upper, codes.RATIO)
    return Widths(_length(heart_columns, spacing), _length(thorax_columns, spacing), rounded, heart_columns, thorax_columns)


def abstained_percent(decisions: NDArray[np.uint8]) -> float:
    """Per cent of the film's pixels at which at least one structure's decision is not certified, rounded up."""
    abstained = (decisions == ABSTAIN).any(axis=0)
    return _up(Decimal(100 * int(abstained.sum())) / abstained.size, _HUNDREDTH)


def _planes(decisions: NDArray[np.uint8], certificate: Certificate) -> list[tuple[NDArray[np.uint8], tuple[str, str]]]:
    return [(plane, structure.code[:2]) for plane, structure in zip(decisions, certificate.structures, strict=True)]


def _length(columns: IntervalCount, spacing: PixelSpacing) -> Bounds:
    if spacing.keyword is None:
        return Bounds(float(columns.lower), float(columns.upper), codes.PIXELS)
    one = Decimal(spacing.column)
    return Bounds(_down(columns.lower * one, _HUNDREDTH), _up(columns.upper * one, _HUNDREDTH), codes.MILLIMETER)


def _down(value: Decimal, step: Decimal) -> float:
    return float(value.quantize(step, ROUND_FLOOR))


def _up(value: Decimal, step: Decimal) -> float:
    return float(value.quantize(step, ROUND_CEILING))
