"""Where the pixels of an image lie: their spacing, and the plane in which the image itself says that it lies. One reading for all."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header

_SPACINGS: Final = ("ImagerPixelSpacing", "PixelSpacing", "NominalScannedPixelSpacing")
"""Where a spacing is looked for: of the detector first, since that is measured."""

NO_SPACING: Final = "the image states no usable pixel spacing; 1 mm per pixel stands in for it, lengths and areas mean nothing"

_TWO_IN_ONE: Final = re.compile(r"\s*(\d+\.\d+)\s*[,;]\s*(\d+\.\d+)\s*")
"""Two numbers in one value, where a backslash should part them."""

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")
_SQUARE: Final = 0.01
"""By how much the sides of a pixel may differ before that is said."""

_UNIT: Final = 1e-3
"""By how much direction cosines may miss a length of 1 and a right angle; what viewers tolerate is not less."""


@dataclass(frozen=True)
class PixelSpacing:
    """Distance between pixel centres, decimal strings in mm; `keyword`: where the image states it, None where 1 mm stands in."""

    row: str
    column: str
    keyword: str | None


@dataclass(frozen=True)
class Plane:
    """A plane in the patient (PS3.3 C.7.6.2): its frame of reference, direction cosines of rows and columns, the first pixel's position."""

    frame_of_reference: str
    orientation: tuple[float, ...]
    position: tuple[float, ...]
    spacing: PixelSpacing


def spacing_of(dataset: Dataset) -> PixelSpacing:
    """The first usable spacing: decimal commas are read, and two numbers in one value; 1 mm where there is none."""
    for keyword in _SPACINGS:
        if (found := _spacing(dataset, keyword)) is not None:
            return found
    return PixelSpacing("1", "1", None)


def plane_of(dataset: Dataset) -> Plane | None:
    """The plane that the image states; None unless frame of reference, orientation and position are all there and make sense."""
    try:
        frame = header.text(dataset, "FrameOfReferenceUID")
    except ImageRefusedError:
        return None
    orientation, position = _numbers(dataset, "ImageOrientationPatient"), _numbers(dataset, "ImagePositionPatient")
    if not (_UID.fullmatch(frame) and len(frame) <= 64 and len(orientation) == 6 and len(position) == 3):
        return None
    rows, columns = np.array(orientation[:3]), np.array(orientation[3:])
    lengths = np.array([rows @ rows, columns @ columns])
    if np.abs(lengths - 1).max() > _UNIT or abs(rows @ columns) > _UNIT:
        return None
    spacing = _spacing(dataset, "PixelSpacing") or spacing_of(dataset)
    return Plane(frame, orientation, position, spacing)


def plane_notes(dataset: Dataset) -> tuple[str, ...]:
    """What was read otherwise than it is written, or not at all."""
    notes = []
    if spacing_of(dataset).keyword is None:
        notes.append(NO_SPACING)
    for keyword in _SPACINGS:
        if not _is_stated(dataset, keyword):
            continue
        found = _spacing(dataset, keyword)
        if found is None:
            notes.append(f"{keyword} is not two numbers above 0, and was left out")
        elif header.has_decimal_comma(dataset, keyword) or len(header.values(dataset, keyword)) == 1:
            notes.append(f"{keyword} is not written as two decimal numbers; it was read as {found.row} and {found.column} mm")
    notes += _spacing_notes(spacing_of(dataset), dataset)
    stated = [keyword for keyword in ("ImageOrientationPatient", "ImagePositionPatient") if _is_stated(dataset, keyword)]
    if stated and plane_of(dataset) is None:
        notes.append(f"the plane of the image ({', '.join(stated)}) is incomplete or not valid; results lie in a plane of their own")
    return tuple(notes)


def _spacing_notes(spacing: PixelSpacing, dataset: Dataset) -> Iterator[str]:
    """What a usable spacing does not say, or says and most images do not."""
    if spacing.keyword == "NominalScannedPixelSpacing":
        yield "lengths are those of the scanned film (NominalScannedPixelSpacing), at no stated magnification"
    elif spacing.keyword == "PixelSpacing" and not _is_stated(dataset, "PixelSpacingCalibrationType") and plane_of(dataset) is None:
        yield "PixelSpacing without ImagerPixelSpacing and without a calibration: lengths may be the detector's or the patient's"
    if spacing.keyword is not None and abs(float(spacing.row) / float(spacing.column) - 1) > _SQUARE:
        yield f"the pixels are not square ({spacing.row} by {spacing.column} mm); the model sees the image as it is stored"


def _is_stated(dataset: Dataset, keyword: str) -> bool:
    """Whether there is something, if only something that cannot be read."""
    try:
        return bool(header.values(dataset, keyword))
    except ImageRefusedError:
        return True


def _spacing(dataset: Dataset, keyword: str) -> PixelSpacing | None:
    found = _numbers(dataset, keyword)
    if len(found) != 2 or min(found) <= 0:
        return None
    row, column = (str(DSfloat(value, auto_format=True)) for value in found)
    return PixelSpacing(row, column, keyword)


def _numbers(dataset: Dataset, keyword: str) -> tuple[float, ...]:
    """The numbers of an attribute, whatever VR it was written with; none where one cannot be read."""
    try:
        values = header.values(dataset, keyword)
        if len(values) == 1 and isinstance(values[0], bytes):  # written as UN
            values = tuple(values[0].decode("ascii", "replace").strip(" \0").split("\\"))
        if len(values) == 1 and (both := _TWO_IN_ONE.fullmatch(str(values[0]))):
            values = both.groups()
        numbers = tuple(float(header.decimal(value)) for value in values)  # type: ignore[arg-type]  # float() says whether it is a number
    except (ImageRefusedError, TypeError, ValueError, OverflowError):
        return ()
    return numbers if all(map(math.isfinite, numbers)) else ()
