"""What every object that certdicom writes says of itself and takes over from its film."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, Final

from highdicom import AlgorithmIdentificationSequence
from highdicom.base_content import ContributingEquipment
from highdicom.sr import CodedConcept
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from certdicom.certification.certificate import Certificate
from certdicom.outputs import codes, statements
from certdicom.outputs.series import Series
from certdicom.outputs.source import Source
from certdicom.outputs.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from certdicom.version import VERSION

MANUFACTURER: Final = "certdicom"
LONG_STRING: Final = 64
SHORT_TEXT: Final = 1024
LONG_TEXT: Final = 10240


def clip(text: str, length: int) -> str:
    """`text` cut to what its value representation holds; three dots say that it was cut."""
    return text if len(text) <= length else text[: length - 3] + "..."


def device_serial_number(certificate: Certificate) -> str:
    """The networks' digest stands in for the serial number: it is what tells two installations' results apart."""
    return certificate.bundle_sha256[:LONG_STRING] or "none"


def algorithm_name(certificate: Certificate) -> str:
    return clip(f"certdicom with bundle {certificate.bundle_name}", LONG_STRING)


def algorithm_identification(certificate: Certificate) -> AlgorithmIdentificationSequence:
    """Who computed it, with the certificate's parameters as JSON in Algorithm Parameters (0066,0032)."""
    sequence = AlgorithmIdentificationSequence(
        name=algorithm_name(certificate),
        family=CodedConcept(*codes.ARTIFICIAL_INTELLIGENCE),
        version=VERSION,
        source="certdicom",
    )
    sequence[0].AlgorithmParameters = statements.machine_readable(certificate, software_version=VERSION)
    return sequence


def contribution(certificate: Certificate) -> ContributingEquipment:
    """The item of ContributingEquipmentSequence that IHE asks of software that makes results."""
    return ContributingEquipment(
        manufacturer=MANUFACTURER,
        purpose_of_reference=CodedConcept(*codes.PROCESSING_EQUIPMENT),
        manufacturer_model_name="certdicom",
        software_versions=[VERSION, clip(f"bundle {certificate.bundle_name}", LONG_STRING)],
        device_serial_number=certificate.bundle_sha256[:LONG_STRING] or None,
        contribution_description=clip(f"Certified segmentation by randomized smoothing. {statements.RESEARCH_USE}", SHORT_TEXT),
    )


def made_by(kind: Series, certificate: Certificate) -> dict[str, Any]:
    """What highdicom is told alike of every object: who made it, and which series of that `kind` it is the only one of."""
    return {
        "series_number": kind.number_of(certificate),
        "series_description": kind.description_of(certificate),
        "instance_number": 1,
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": "certdicom",
        "software_versions": VERSION,
        "device_serial_number": device_serial_number(certificate),
        "contributing_equipment": [contribution(certificate)],
    }


def inherit(derived: Dataset, source: Source, *, without: Collection[str] = ()) -> None:
    """Set on `derived` what it shares with its film, but for the keywords `without`, and who wrote the file.

    Where our own words do not fit the film's character set, the object is written in UTF-8, unless the film's words do not fit it either:
    they are kept as bytes, which mean nothing in another set, and letters of ours that it lacks become question marks.
    """
    inherited = source.inheritance.elements
    needs_utf8 = not _is_ascii(element for element in derived if element.tag not in inherited)
    for element in inherited:
        if element.keyword not in without:
            derived.add(element)
    if needs_utf8 and source.inheritance.fits:
        derived.SpecificCharacterSet = "ISO_IR 192"
    derived.file_meta.ImplementationClassUID = IMPLEMENTATION_CLASS_UID
    derived.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME


def leave_laterality_open(derived: Dataset) -> None:
    """An image of an unnamed body part must have a Laterality (type 2C, PS3.3 C.7.3.1); empty says that nobody knows it."""
    if not derived.get("BodyPartExamined"):
        derived.Laterality = None


def image_comments(claim: str, certificate: Certificate) -> str:
    """A claim in words, and what was odd in the film; at most 10240 characters."""
    return clip(" ".join([claim, *(f"Note: {note}." for note in certificate.notes)]), LONG_TEXT)


def _is_ascii(own: Iterable[DataElement]) -> bool:
    """Whether our own words fit the film's character set, whichever it is; a structure's name from a bundle may not."""
    for element in own:
        if element.VR == "SQ" and not all(_is_ascii(item) for item in element.value):
            return False
        if element.VR in ("LO", "SH", "ST", "LT", "UT", "UC") and not str(element.value).isascii():
            return False
    return True
