"""What a result takes over from its image: who the patient is and which study it is.

Text is taken over as the bytes that it is written in. pydicom replaces bytes that do not fit the character set that a header declares, and
archives match by what such a header holds and not by what it should hold.
"""

from __future__ import annotations

import copy
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydicom import config
from pydicom.charset import convert_encodings, encode_string
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR, PersonName, validate_value

from certdicom.imaging import header

IDENTITY = ("PatientID", "PatientName", "IssuerOfPatientID", "AccessionNumber", "StudyID")
"""By these an archive files the result with its image. They are kept letter for letter even where the image breaks a rule (an
18-character accession number is common): a tidied value would file the result elsewhere."""

REQUIRED_IF_EMPTY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
"""Of type 2: there in every result, if empty."""

_SINGLE_VALUED = {*IDENTITY, *REQUIRED_IF_EMPTY}

_SHARED = (
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
"""Patient, Clinical Trial Subject, General Study and Patient Study modules (PS3.3 C.7.1, C.7.2), what all instances of one study share;
and the two attributes of the image that tell a reader which way up and what it is."""

_UNREADABLE = (ValueError, TypeError, LookupError, OverflowError, NotImplementedError, AttributeError)


@dataclass(frozen=True, eq=False)
class Inheritance:
    """`elements`: what a result takes over; none of it is shared with the image's own data set.

    `fits`: whether all of its text can be read in the character set that the image declares, so that another may be declared for it;
    `notes`: what was left out, and what was kept although it is wrong.
    """

    elements: Dataset
    fits: bool
    notes: tuple[str, ...]


def inheritance_of(dataset: Dataset) -> Inheritance:
    """What results of an image take over. Values that break their VR are left out, but for those by which archives match patients."""
    notes: list[str] = []
    misfits: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom warns of what is noted here, and quotes it
        taken = Dataset()
        for keyword in REQUIRED_IF_EMPTY:
            setattr(taken, keyword, None)
        taken.update(valid_elements(dataset, _SHARED, notes, misfits))
        for keyword, element in _readable(dataset, IDENTITY, notes, misfits):
            if not _is_valid(element):
                notes.append(f"the image's {keyword} is not valid and was kept as it is, because archives match by it")
            taken.add(element)
    if declared := header.values(dataset, "SpecificCharacterSet"):
        taken.SpecificCharacterSet = [_tidy_term(str(term or "")) for term in declared]
    if misfits:
        notes.append(f"the image's {', '.join(misfits)} does not fit the character set that it declares; its bytes were kept as they are")
    return Inheritance(taken, not misfits, tuple(notes))


def valid_elements(dataset: Dataset, keywords: Sequence[str], notes: list[str] | None = None, misfits: list[str] | None = None) -> Dataset:
    """Those of the image's elements that keep to their VR; what is left out is noted, and whose bytes do not fit is a misfit."""
    notes = [] if notes is None else notes
    kept = Dataset()
    for keyword, element in _readable(dataset, keywords, notes, [] if misfits is None else misfits):
        if _is_valid(element):
            kept.add(element)
        else:
            notes.append(f"the image's {keyword} is not valid and was left out")
    return kept


def _readable(dataset: Dataset, keywords: Sequence[str], notes: list[str], misfits: list[str]) -> Iterator[tuple[str, DataElement]]:
    """Copies of those of the image's elements that can be decoded, by keyword; what cannot is noted."""
    encodings = _encodings(dataset, ["iso8859"])
    for keyword in keywords:
        tag = tag_for_keyword(keyword)
        if tag is None or tag not in dataset:
            continue
        try:
            element, fits = _copy(dataset, BaseTag(tag), encodings)
        except _UNREADABLE:
            notes.append(f"the image's {keyword} could not be read and was left out")
            continue
        if not fits:
            misfits.append(keyword)
        yield keyword, element


def _copy(dataset: Dataset, tag: BaseTag, encodings: list[str]) -> tuple[DataElement, bool]:
    """A copy of an element with the VR that the dictionary gives it, and whether all of its bytes fit the character set."""
    stored = dataset.get_item(tag)
    vr = stored.VR if tag.is_private else dictionary_VR(tag)
    if isinstance(stored, RawDataElement) and vr in CUSTOMIZABLE_CHARSET_VR:
        return _text(stored._replace(VR=vr), encodings)
    element = dataset[tag]
    if element.VR == vr == "SQ":
        items = [_copy_item(item, encodings) for item in element.value]
        return DataElement(tag, vr, [item for item, _ in items]), all(fits for _, fits in items)
    value = element.value
    if vr != element.VR and isinstance(value, bytes):
        value = value.decode("ascii").strip(" \0")
    return DataElement(tag, vr, copy.deepcopy(value), validation_mode=config.IGNORE), True


def _copy_item(item: Dataset, encodings: list[str]) -> tuple[Dataset, bool]:
    """A copy of a sequence's item, private elements left out."""
    encodings = _encodings(item, encodings)
    copies = [_copy(item, tag, encodings) for tag in item.keys() if not tag.is_private]  # noqa: SIM118  # iterating a data set decodes it
    made = Dataset()
    for element, _ in copies:
        made.add(element)
    return made, all(fits for _, fits in copies)


def _text(raw: RawDataElement, encodings: list[str]) -> tuple[DataElement, bool]:
    """The text of an element where writing it gives the bytes that were read; otherwise those bytes."""
    element = convert_raw_data_element(raw, encoding=encodings)
    read = (raw.value or b"").rstrip(b" \0")
    values = element.value if element.VM > 1 else [] if element.is_empty else [element.value]
    is_name = raw.VR == "PN"
    written = b"\\".join(value.encode(encodings) if is_name else encode_string(value, encodings) for value in values)
    if written.rstrip(b" \0") == read:
        return element, True
    verbatim = [PersonName(name, encodings) for name in read.split(b"\\")] if is_name else read
    return DataElement(raw.tag, raw.VR, verbatim, validation_mode=config.IGNORE), False


def _encodings(dataset: Dataset, otherwise: list[str]) -> list[str]:
    """Python's names of the character sets that a data set declares."""
    declared = header.values(dataset, "SpecificCharacterSet")
    return convert_encodings([_tidy_term(str(term or "")) for term in declared]) if declared else otherwise


def _tidy_term(term: str) -> str:
    """`ISO-IR 100`, `ISO IR 100` and their like are written by some devices for `ISO_IR 100` (PS3.3 C.12.1.1.2)."""
    return re.sub(r"^ISO[-_ ]IR[-_ ]", "ISO_IR ", term)


def _is_valid(element: DataElement) -> bool:
    if element.VR == "SQ":
        return all(_is_valid(inner) for item in element.value for inner in item)
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
