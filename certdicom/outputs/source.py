"""What a derived object takes over from its film or photograph, cleaned: who the patient is, which study it is, where its pixels lie."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.valuerep import DSfloat, validate_value

from certdicom.imaging import header
from certdicom.imaging.acceptance import require_referable
from certdicom.imaging.plane import PixelSpacing, Plane, plane_of, spacing_of
from certdicom.outputs.uids import frame_of_reference_uid

Geometry = Literal["viewer", "none"]

_REFERENCES = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")

# By these an archive files the result with its film. They are kept letter for letter even where the film breaks a
# rule (an 18-character accession number is common): a tidied value would file the result elsewhere.
_IDENTITY = ("PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyID")

_REQUIRED_IF_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)

_SINGLE_VALUED = {*_IDENTITY, *_REQUIRED_IF_EMPTY}

# Patient, Clinical Trial Subject, General Study and Patient Study modules (PS3.3 C.7.1, C.7.2), what all instances of
# one study share; and the two attributes of the film that tell a reader which way up and what it is.
_INHERITED = (
    *("PatientBirthDate", "PatientBirthTime", "PatientSex", "OtherPatientIDsSequence", "OtherPatientNames"),
    *("IssuerOfPatientIDQualifiersSequence", "PatientIdentityRemoved", "DeidentificationMethod", "EthnicGroup"),
    *("DeidentificationMethodCodeSequence", "PatientComments", "QualityControlSubject", "ResponsiblePerson"),
    *("ResponsiblePersonRole", "ResponsibleOrganization", "PatientSpeciesDescription", "PatientBreedDescription"),
    *("PatientSpeciesCodeSequence", "PatientBreedCodeSequence", "BreedRegistrationSequence"),
    *("ClinicalTrialSponsorName", "ClinicalTrialProtocolID", "ClinicalTrialProtocolName", "ClinicalTrialSiteID"),
    *("ClinicalTrialSiteName", "ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID"),
    *("ClinicalTrialTimePointID", "ClinicalTrialTimePointDescription"),
    *("StudyDate", "StudyTime", "StudyDescription", "ReferringPhysicianName", "ConsultingPhysicianName"),
    *("ReferringPhysicianIdentificationSequence", "IssuerOfAccessionNumberSequence", "PhysiciansOfRecord"),
    *("NameOfPhysiciansReadingStudy", "ProcedureCodeSequence", "RequestingService", "ReferencedStudySequence"),
    *("AdmittingDiagnosesDescription", "AdmittingDiagnosesCodeSequence", "PatientAge", "PatientSize", "PatientWeight"),
    *("PatientSexNeutered", "PregnancyStatus", "MedicalAlerts", "Allergies", "SmokingStatus", "Occupation"),
    *("AdditionalPatientHistory", "LastMenstrualDate", "PatientState", "AdmissionID", "ServiceEpisodeID"),
    *("PatientOrientation", "BodyPartExamined"),
)

_EQUIPMENT = (
    *("Manufacturer", "ManufacturerModelName", "SoftwareVersions", "DeviceSerialNumber", "InstitutionName"),
    *("InstitutionalDepartmentName", "InstitutionAddress", "StationName", "AcquisitionDateTime"),
)

_UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, NotImplementedError, AttributeError)


@dataclass(frozen=True, eq=False)
class Source:
    """A film as a derived object refers to it; none of it is shared with the film's own data set.

    `image`: a small data set without pixels for highdicom, with references, size, equipment and, for viewer geometry,
    the film's own plane or a synthetic one; `inherited`: attributes to set on the derived object; `spacing`: of the plane;
    `notes`: what was missing or wrong in the film and how it was taken.
    """

    image: Dataset
    inherited: Dataset
    spacing: PixelSpacing
    notes: tuple[str, ...]


def describe_source(dataset: Dataset, *, geometry: Geometry) -> Source:
    """Take from `dataset` what a result refers to and inherits; the film's data set is not changed.

    Values that break their VR are left out with a note, but for those by which archives match patients.
    Raises ImageRefusedError for a film that a segmentation cannot refer to.
    """
    notes: list[str] = []
    spacing = spacing_of(dataset)
    image = _references(dataset)
    for keyword in _REQUIRED_IF_EMPTY:
        setattr(image, keyword, None)
    image.update(_valid_elements(dataset, _EQUIPMENT, []))
    image.update(_lossy_compression(dataset))
    if geometry == "viewer":
        _place(image, plane_of(dataset), spacing)
        if spacing.keyword is None:
            notes.append("the image states no usable pixel spacing; 1 mm per pixel stands in for it, lengths and areas mean nothing")

    inherited = Dataset()
    for keyword in _REQUIRED_IF_EMPTY:
        setattr(inherited, keyword, None)
    inherited.update(_valid_elements(dataset, _INHERITED, notes))
    inherited.update(_verbatim_elements(dataset, _IDENTITY, notes))
    if dataset.get("SpecificCharacterSet"):
        inherited.SpecificCharacterSet = _tidy_character_set(dataset.SpecificCharacterSet)
    return Source(image, inherited, spacing, tuple(notes))


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
    if dataset.get("LossyImageCompression") == "01":
        kept.LossyImageCompression = "01"
        kept.update(_valid_elements(dataset, ("LossyImageCompressionRatio", "LossyImageCompressionMethod"), []))
    return kept


def _valid_elements(dataset: Dataset, keywords: tuple[str, ...], notes: list[str]) -> Dataset:
    """The film's elements that keep to their VR; what is left out is noted."""
    kept = Dataset()
    for keyword, element in _readable(dataset, keywords, notes):
        if _is_valid(element):
            kept.add(copy.deepcopy(element))
        else:
            notes.append(f"the image's {keyword} is not valid and was left out")
    return kept


def _verbatim_elements(dataset: Dataset, keywords: tuple[str, ...], notes: list[str]) -> Dataset:
    """The film's elements letter for letter; what breaks its VR is noted."""
    kept = Dataset()
    for keyword, element in _readable(dataset, keywords, notes):
        if not _is_valid(element):
            notes.append(f"the image's {keyword} is not valid and was kept as it is, because archives match by it")
        kept.add(DataElement(element.tag, element.VR, copy.deepcopy(element.value), validation_mode=config.IGNORE))
    return kept


def _readable(dataset: Dataset, keywords: tuple[str, ...], notes: list[str]) -> Iterator[tuple[str, DataElement]]:
    """Those of the film's elements that can be decoded, by keyword; what cannot is noted."""
    for keyword in keywords:
        element = _element(dataset, keyword)
        if element is not None:
            yield keyword, element
        elif keyword in dataset:
            notes.append(f"the image's {keyword} could not be read and was left out")


def _element(dataset: Dataset, keyword: str) -> DataElement | None:
    """The film's element with the VR that the dictionary gives it; None where it is absent or cannot be decoded."""
    tag = tag_for_keyword(keyword)
    if tag is None or tag not in dataset:
        return None
    try:
        element = dataset[tag]
        wanted = dictionary_VR(tag)
        if wanted == element.VR:
            return element
        value = element.value.decode("ascii").strip(" \0") if isinstance(element.value, bytes) else element.value
        return DataElement(tag, wanted, value, validation_mode=config.IGNORE)
    except _UNREADABLE:
        return None


def _is_valid(element: DataElement) -> bool:
    if element.VR == "SQ":
        return all(_is_valid(inner) for item in element.value for inner in item if not inner.tag.is_private)
    if element.is_empty:
        return True
    if element.VM > 1:
        return element.keyword not in _SINGLE_VALUED and all(_is_valid_value(element, value) for value in element.value)
    return _is_valid_value(element, element.value)


def _is_valid_value(element: DataElement, value: object) -> bool:
    if element.keyword == "PatientSex":
        return value in ("M", "F", "O")
    if element.keyword in ("PatientSize", "PatientWeight") and value == 0:
        return False  # what some devices write for "not measured"
    try:
        validate_value(element.VR, value if isinstance(value, bytes | int) else str(value), config.RAISE)
    except _UNREADABLE:
        return False
    return True


def _tidy_character_set(declared: str | Sequence[str]) -> list[str]:
    """`ISO-IR 100`, `ISO IR 100` and their like are written by some devices for `ISO_IR 100` (PS3.3 C.12.1.1.2)."""
    terms = [declared] if isinstance(declared, str) else declared
    return [re.sub(r"^ISO[-_ ]IR[-_ ]", "ISO_IR ", str(term or "")) for term in terms]
