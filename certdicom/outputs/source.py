"""What a derived object takes over from its film or photograph, cleaned: who the patient is, which study it is, where its pixels lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat

from certdicom.imaging import header
from certdicom.imaging.acceptance import require_referable
from certdicom.imaging.inheritance import REQUIRED_IF_EMPTY, Inheritance, inheritance_of, valid_elements
from certdicom.imaging.pixels import was_lossy
from certdicom.imaging.plane import PixelSpacing, Plane, plane_of, spacing_of
from certdicom.outputs.uids import frame_of_reference_uid

Geometry = Literal["viewer", "none"]

_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "InstitutionName"),
    *("InstitutionalDepartmentName", "InstitutionAddress", "StationName", "AcquisitionDateTime"),
)


@dataclass(frozen=True, eq=False)
class Source:
    """A film as a derived object refers to it; none of it is shared with the film's own data set.

    `image`: a small data set without pixels for highdicom, with references, size, equipment and, for viewer geometry,
    the film's own plane or a synthetic one; `inheritance`: what to set on the derived object; `spacing`: of the plane.
    """

    image: Dataset
    inheritance: Inheritance
    spacing: PixelSpacing


def describe_source(dataset: Dataset, *, geometry: Geometry) -> Source:
    """Take from `dataset` what a result refers to and inherits; the film's data set is not changed.

    Raises ImageRefusedError for a film that a segmentation cannot refer to.
    """
    spacing = spacing_of(dataset)
    image = _references(dataset)
    for keyword in REQUIRED_IF_EMPTY:
        setattr(image, keyword, None)
    image.update(valid_elements(dataset, _EQUIPMENT))
    image.update(_lossy_compression(dataset))
    if geometry == "viewer":
        _place(image, plane_of(dataset), spacing)
    return Source(image, inheritance_of(dataset), spacing)


def _references(dataset: Dataset) -> Dataset:
    image = Dataset()
    require_referable(dataset)
    for keyword in _REFERENCES:
        setattr(image, keyword, header.text(dataset, keyword))
    image.Modality = str(dataset.get("Modality") or "OT")
    image.Rows, image.Columns = int(dataset.Rows), int(dataset.Columns)
    return image


def _place(image: Dataset, plane: Plane | None, spacing: PixelSpacing) -> None:
    """In the image's own plane, or else in the identity plane: OHIF and dcmqi open no segmentation without one.

    The identity plane is a convention, and says nothing about anatomy.
    """
    image.PositionReferenceIndicator = ""
    image.SliceThickness = "1"
    if plane is None:
        image.FrameOfReferenceUID = frame_of_reference_uid(image.SOPInstanceUID)
        image.ImageOrientationPatient = ["1", "0", "0", "0", "1", "0"]
        image.ImagePositionPatient = ["0", "0", "0"]
        image.PixelSpacing = [spacing.row, spacing.column]
        return
    image.FrameOfReferenceUID = plane.frame_of_reference
    image.ImageOrientationPatient = [DSfloat(value, auto_format=True) for value in plane.orientation]
    image.ImagePositionPatient = [DSfloat(value, auto_format=True) for value in plane.position]
    image.PixelSpacing = [plane.spacing.row, plane.spacing.column]


def _lossy_compression(dataset: Dataset) -> Dataset:
    kept = Dataset()
    if dataset.get("LossyImageCompression") == "01" or was_lossy(dataset):
        kept.LossyImageCompression = "01"
        kept.update(valid_elements(dataset, ("LossyImageCompressionRatio", "LossyImageCompressionMethod")))
    return kept
