"""How a film is shown, in the words of a presentation state: Modality LUT, Softcopy VOI LUT, polarity, shutter, shape of pixels.

A viewer that applies them shows the film as it shows it by its own header: PS3.3 C.11.1, C.11.8, C.11.6, C.7.6.11, C.10.4.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.image import Radiograph
from certdicom.imaging.pixels import pixel_format
from certdicom.imaging.plane import spacing_of
from certdicom.imaging.shutter import shutter_elements
from certdicom.imaging.voi import LookupTable, read_table

_BLACK, _FULL = 0, 0xFFFF
_FINEST = 1000
"""Largest denominator of a pixel aspect ratio."""


def gray_pipeline(film: Radiograph) -> Dataset:
    """From stored values to gray, and what the shutter hides: the attributes of a grayscale presentation state.

    Of several windows the first one is taken, and a film without a window, or with one that shows next to nothing of it, is shown from the
    1st to the 99th percentile, as in every picture of a result.
    """
    pipeline = _modality(film)
    pipeline.SoftcopyVOILUTSequence = [_voi(film)]
    pipeline.PresentationLUTShape = "INVERSE" if _inverted(film) else "IDENTITY"
    if shutter := shutter_elements(film.dataset, rows=film.rows, columns=film.columns):
        pipeline.update(shutter)
        pipeline.ShutterPresentationValue = _BLACK
    return pipeline


def pixel_aspect_ratio(dataset: Dataset) -> tuple[int, int]:
    """Height to width of a pixel, by the image's spacing, or else by what it states of their ratio; 1 to 1 where it says nothing."""
    spacing = spacing_of(dataset)
    sides = [Fraction(spacing.row), Fraction(spacing.column)]
    try:
        if spacing.keyword is None and len(stated := header.numbers(dataset, "PixelAspectRatio")) == 2 and min(stated) > 0:
            sides = [Fraction(side) for side in stated]
    except ImageRefusedError:
        pass  # what cannot be read says nothing
    ratio = max(sides[0] / sides[1], Fraction(1, _FINEST)).limit_denominator(_FINEST)
    return ratio.numerator, ratio.denominator


def _modality(film: Radiograph) -> Dataset:
    elements = Dataset()
    if tables := header.items(film.dataset, "ModalityLUTSequence"):
        limits = pixel_format(film.dataset).limits
        table = _read(tables[0], film, name="Modality LUT", lowest=limits.lowest, highest=limits.highest)
        elements.ModalityLUTSequence = [_item(table.first, table.entries)]
        elements.ModalityLUTSequence[0].ModalityLUTType = header.text(tables[0], "ModalityLUTType") or "US"
        return elements
    slope, intercept = film.presentation.rescale
    if (slope, intercept) != (1, 0) or "RescaleSlope" in film.dataset:
        elements.RescaleSlope, elements.RescaleIntercept = _decimal(slope), _decimal(intercept)
        elements.RescaleType = header.text(film.dataset, "RescaleType") or "US"
    return elements


def _voi(film: Radiograph) -> Dataset:
    """The one item of the Softcopy VOI LUT Sequence."""
    item = Dataset()
    rendering = film.rendering
    if rendering is not film.presentation.fixed:
        lo, hi = _in_modality_values(film, rendering.shown)
        item.WindowCenter, item.WindowWidth = _decimal((lo + hi + 1) / 2), _decimal(hi - lo + 1)
        item.WindowCenterWidthExplanation = "1st to 99th percentile of the film"
        item.VOILUTFunction = "LINEAR"
        return item
    if tables := header.items(film.dataset, "VOILUTSequence"):
        lowest, highest = _modality_range(film)
        table = _read(tables[0], film, name="VOI LUT", lowest=lowest, highest=highest)
        item.VOILUTSequence = [_item(table.first, table.entries * (_FULL / table.reached))]
        return item
    item.WindowCenter, item.WindowWidth = (
        _decimal(header.numbers(film.dataset, keyword, skip_empty=True)[0]) for keyword in ("WindowCenter", "WindowWidth")
    )
    item.VOILUTFunction = header.text(film.dataset, "VOILUTFunction") or "LINEAR"
    return item


def _modality_range(film: Radiograph) -> tuple[float, float]:
    """The modality values that can occur."""
    if (table := film.presentation.levels.table) is not None:
        return float(table.levels.min()), float(table.levels.max())
    limits = pixel_format(film.dataset).limits
    return _in_modality_values(film, (limits.lowest, limits.highest))


def _in_modality_values(film: Radiograph, ends: tuple[float, float]) -> tuple[float, float]:
    """Levels (`imaging.rendering`) as modality values, the smaller first."""
    if film.presentation.levels.table is not None:
        return ends
    slope, intercept = film.presentation.rescale
    lo, hi = sorted(slope * end + intercept for end in ends)
    return lo, hi


def _inverted(film: Radiograph) -> bool:
    """Whether high modality values are the darker ones."""
    levels = film.presentation.levels
    return levels.inverted if levels.table is not None else levels.inverted != (film.presentation.rescale[0] < 0)


def _read(item: Dataset, film: Radiograph, *, name: str, lowest: float, highest: float) -> LookupTable:
    little_endian = film.dataset.original_encoding[1] is not False
    return read_table(item, name=name, lowest=lowest, highest=highest, little_endian=little_endian)


def _item(first: int, entries: NDArray[np.float64]) -> Dataset:
    """A lookup table of 16-bit entries, the most that a presentation state allows beside 8; as OW, which has no limit of length."""
    descriptor = np.array([len(entries), first, 16]).astype("<i2" if first < 0 else "<u2")
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", descriptor.tolist())
    item.add_new("LUTData", "OW", np.rint(entries).astype("<u2").tobytes())
    return item


def _decimal(value: float) -> DSfloat:
    return DSfloat(value, auto_format=True)
