"""Which instances are certified; all others are stored and left alone, with the reason.

Body part and view are judged where the pixels are read (`certdicom.imaging.acceptance`); what does not need the file opened
further is judged here, on receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from certdicom.node.configuration import Configuration

CERTIFIED_SOP_CLASSES: Final[Mapping[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""SOP classes that are certified unless `rules.sop_classes` says otherwise."""


@dataclass(frozen=True)
class Rules:
    """`sop_classes` UIDs and `modalities` of the instances that are certified; an empty tuple of modalities means any."""

    sop_classes: tuple[str, ...]
    modalities: tuple[str, ...]

    @classmethod
    def of(cls, configuration: Configuration) -> Rules:
        return cls(configuration.texts("rules.sop_classes") or tuple(CERTIFIED_SOP_CLASSES), configuration.texts("rules.modalities"))

    def objection(self, *, sop_class_uid: str, header: Dataset) -> str | None:
        """Why the instance is not certified; None if it is."""
        if sop_class_uid not in self.sop_classes:
            return f"rules.sop_classes does not list {UID(sop_class_uid).name}"
        modality = str(header.get("Modality", "") or "")
        if self.modalities and modality and modality not in self.modalities:
            # A header may say anything here: only what looks like a modality is repeated.
            shown = modality if modality.isalpha() and modality.isupper() and len(modality) <= 8 else "of this instance"
            return f"rules.modalities does not list {shown}"
        return None
