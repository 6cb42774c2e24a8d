"""What kind of thing a structure is, and of which part of the body the image is."""

from __future__ import annotations

from pydicom.dataset import Dataset

from certdicom.certification.certificate import Certificate, Structure
from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.acceptance import is_of_chest
from certdicom.outputs import codes

_SHORT_STRING, _LONG_STRING = 16, 64


def category_of(structure: Structure) -> codes.Concept:
    """The Segmented Property Category (PS3.16 CID 7150): a part of the body, or something abnormal in it."""
    return codes.MORPHOLOGICALLY_ABNORMAL_STRUCTURE if structure.code[:2] in codes.ABNORMALITIES else codes.ANATOMICAL_STRUCTURE


def region_of(dataset: Dataset, certificate: Certificate) -> codes.Concept | None:
    """The chest where structures of the chest are certified; else what the image's header says, None where it says nothing."""
    if any(map(is_of_chest, certificate.structures)):
        return codes.CHEST
    try:
        for item in header.items(dataset, "AnatomicRegionSequence"):
            value, scheme, meaning = (str(item.get(keyword) or "") for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning"))
            if 0 < len(value) <= _SHORT_STRING and 0 < len(scheme) <= _SHORT_STRING and 0 < len(meaning) <= _LONG_STRING:
                return value, scheme, meaning
    except ImageRefusedError:
        return None  # a damaged sequence says nothing
    return None
