"""What certdicom wrote, read with pydicom and NumPy alone: masks, names, colours and places of a SEG, a radius map, shares of the film."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom

SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
PARAMETRIC_MAP_STORAGE = "1.2.840.10008.5.1.4.1.1.30"
ABSTAIN = "Abstain"

_TERMINOLOGY = "Segmentation category and type - DICOM master list"
_ANATOMY = "Anatomic codes - DICOM master list"
_WHITE = np.array([0.95047, 1.0, 1.08883])
"""D65: highdicom, dcmqi and OHIF take it for the white of DICOM's CIELab."""
_XYZ_TO_RGB = np.array([[3.2404542, -1.5371385, -0.4985314], [-0.9692660, 1.8760108, 0.0415560], [0.0556434, -0.2040259, 1.0572252]])
"""To linear sRGB (IEC 61966-2-1)."""


@dataclass(frozen=True)
class Segment:
    """One segment: `rgb` 0 to 255, `terminology` as Slicer writes it, `mask` (rows, columns) uint8 of 0 and 1."""

    name: str
    rgb: tuple[int, int, int]
    terminology: str
    mask: np.ndarray


@dataclass(frozen=True)
class Segmentation:
    """A SEG of one image. `ijk_to_ras` (4, 4): from (column, row, slice) to the patient's coordinates in mm, to the right, front and head;
    `claim`: what is certified, in words; `time`: date and time of its content; `source`: SOP Instance UID of the film.
    """

    source: str
    time: str
    claim: str
    ijk_to_ras: np.ndarray
    segments: tuple[Segment, ...]


@dataclass(frozen=True)
class RadiusMap:
    """A radius map: `radii` (rows, columns) float32, the L2 norm on the model grid; `ijk_to_ras` and `source` as of a segmentation."""

    source: str
    ijk_to_ras: np.ndarray
    radii: np.ndarray


@dataclass(frozen=True)
class Share:
    """A line of the table, in shares of the film's pixels; None: the source of the table does not say it."""

    structure: str
    present: float | None
    absent: float | None
    abstained: float | None


def read_segmentation(path: Path) -> Segmentation:
    """Read a binary SEG of one image. ValueError for another object."""
    dataset = pydicom.dcmread(path)
    if dataset.SOPClassUID != SEG_STORAGE or dataset.SegmentationType != "BINARY":
        raise ValueError(f"{path.name} is no binary DICOM SEG")
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns).astype(np.uint8)
    numbers = [int(groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for groups in dataset.PerFrameFunctionalGroupsSequence]
    segments = []
    for item in dataset.SegmentSequence:
        mask = np.zeros((dataset.Rows, dataset.Columns), np.uint8)
        for number, frame in zip(numbers, frames):
            if number == int(item.SegmentNumber):
                mask |= frame
        segments.append(Segment(str(item.SegmentLabel), rgb_of(item.RecommendedDisplayCIELabValue), _terminology_of(item), mask))
    return Segmentation(_source(dataset), _time(dataset), str(dataset.get("ImageComments", "")), _ijk_to_ras(dataset), tuple(segments))


def read_radius_map(path: Path) -> RadiusMap:
    """Read a radius map of one frame. ValueError for another object."""
    dataset = pydicom.dcmread(path)
    if dataset.SOPClassUID != PARAMETRIC_MAP_STORAGE or "FloatPixelData" not in dataset:
        raise ValueError(f"{path.name} is no radius map")
    radii = np.frombuffer(dataset.FloatPixelData, "<f4").reshape(dataset.Rows, dataset.Columns).copy()
    return RadiusMap(_source(dataset), _ijk_to_ras(dataset), radii)


def shares_of_report(report: Mapping) -> list[Share]:
    """The table of a JSON report: each structure, and last the film as a whole."""
    shares = []
    for item in report["structures"]:
        counts = [item[key] for key in ("certified_present_px", "certified_absent_px", "abstain_px")]
        shares.append(Share(item["label"], *(count / sum(counts) for count in counts)))
    return [*shares, Share("any structure", None, None, report["abstain_fraction"])]


def shares_of_segmentation(segmentation: Segmentation) -> list[Share]:
    """The table as far as a SEG says it: what each structure abstains on is there only with an Abstain segment of its own."""
    found = {segment.name: float(segment.mask.mean()) for segment in segmentation.segments}
    structures = [name for name in found if not name.startswith(ABSTAIN)]
    shares = []
    for name in structures:
        abstained = next((share for other, share in found.items() if other == f"{ABSTAIN}: {name}"), None)
        shares.append(Share(name, found[name], None if abstained is None else 1 - found[name] - abstained, abstained))
    return [*shares, Share("any structure", None, None, found.get(ABSTAIN))]


def rgb_of(lab: object) -> tuple[int, int, int]:
    """A Recommended Display CIELab Value, three numbers of 16 bits, as sRGB 0 to 255."""
    lightness, a, b = np.asarray(lab, float) / 65535 * (100, 255, 255) - (0, 128, 128)
    y = (lightness + 16) / 116
    f = np.array([y + a / 500, y, y - b / 200])
    xyz = _WHITE * np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29))
    linear = np.clip(_XYZ_TO_RGB @ xyz, 0, 1)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    red, green, blue = (round(255 * float(part)) for part in srgb)
    return red, green, blue


def _terminology_of(item: pydicom.Dataset) -> str:
    """Slicer's serialized terminology: context~category~type~modifier~anatomic context~region~region modifier."""
    category, kind = (_term(item.get(f"SegmentedProperty{what}CodeSequence")) for what in ("Category", "Type"))
    return "~".join([_TERMINOLOGY, category, kind, "^^", _ANATOMY, _term(item.get("AnatomicRegionSequence")), "^^"])


def _term(codes: pydicom.Sequence | None) -> str:
    if not codes:
        return "^^"
    parts = (codes[0].CodingSchemeDesignator, codes[0].CodeValue, codes[0].CodeMeaning)
    return "^".join(str(part).translate(str.maketrans("~^|\n", "    ")) for part in parts)


def _ijk_to_ras(dataset: pydicom.Dataset) -> np.ndarray:
    orientation = [float(value) for value in _group(dataset, "PlaneOrientationSequence").ImageOrientationPatient]
    position = [float(value) for value in _group(dataset, "PlanePositionSequence").ImagePositionPatient]
    between_rows, between_columns = (float(value) for value in _group(dataset, "PixelMeasuresSequence").PixelSpacing)
    along_row, along_column = np.array(orientation[:3]), np.array(orientation[3:])
    to_lps = np.eye(4)
    to_lps[:3, 0], to_lps[:3, 1] = along_row * between_columns, along_column * between_rows
    to_lps[:3, 2], to_lps[:3, 3] = np.cross(along_row, along_column), position
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ to_lps


def _group(dataset: pydicom.Dataset, keyword: str) -> pydicom.Dataset:
    """A functional group, of all frames or of the first. ValueError where there is none."""
    for groups in (dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence[0]):
        if keyword in groups:
            return groups[keyword][0]
    raise ValueError(f"the object states no {keyword}: it was written with the geometry 'none'")


def _source(dataset: pydicom.Dataset) -> str:
    return str(dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID)


def _time(dataset: pydicom.Dataset) -> str:
    return f"{dataset.get('ContentDate', '')}{dataset.get('ContentTime', '')}"
