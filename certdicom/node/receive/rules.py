"""Which instances are certified; all others are stored, not processed, with the reason.

Body part and view are judged where the pixels are read (`certdicom.imaging.acceptance`); what does not need the file opened
further is judged here, on receipt.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from certdicom.errors import ImageRefusedError
from certdicom.imaging.acceptance import MODALITIES, PHOTOGRAPH_CLASSES, PHOTOGRAPH_MODALITIES, require_referable
from certdicom.imaging.header import text, told
from certdicom.node.configuration import Configuration
from certdicom.suitability import takes_photographs

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle

FILM_SOP_CLASSES: Final[Mapping[str, str]] = {
    "1.2.840.10008.5.1.4.1.1.1": "Computed Radiography Image Storage",
    "1.2.840.10008.5.1.4.1.1.1.1": "Digital X-Ray Image Storage - For Presentation",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "Digital X-Ray Image Storage - For Processing",
    "1.2.840.10008.5.1.4.1.1.7": "Secondary Capture Image Storage",
}
"""SOP classes that are certified with a bundle for films unless `rules.sop_classes` says otherwise."""

PHOTOGRAPH_SOP_CLASSES: Final[Mapping[str, str]] = {uid: UID(uid).name for uid in PHOTOGRAPH_CLASSES}
"""The same with a bundle for colour photographs."""


@dataclass(frozen=True)
class Rules:
    """`sop_classes` UIDs and `modalities` of the instances that are certified; `bundle`: what it is for, in words."""

    sop_classes: tuple[str, ...]
    modalities: tuple[str, ...]
    bundle: str

    @classmethod
    def of(cls, configuration: Configuration, bundle: Bundle) -> Rules:
        """What the configuration lists, and where it lists nothing what the bundle is for."""
        photographs = takes_photographs(bundle)
        return cls(
            tuple(configuration.rules.sop_classes or (PHOTOGRAPH_SOP_CLASSES if photographs else FILM_SOP_CLASSES)),
            tuple(configuration.rules.modalities or (PHOTOGRAPH_MODALITIES if photographs else MODALITIES)),
            f"bundle {bundle.name} is for {'colour photographs' if photographs else 'radiographs'}",
        )

    def objection(self, *, sop_class_uid: str, header: Dataset) -> str | None:
        """Why the instance is not certified; None if it is."""
        if sop_class_uid not in self.sop_classes:
            known = sop_class_uid in FILM_SOP_CLASSES or sop_class_uid in PHOTOGRAPH_SOP_CLASSES
            return f"rules.sop_classes does not list {UID(sop_class_uid).name}{self._because(known=known)}"
        try:
            if objection := self._of_modality(text(header, "Modality")):
                return objection
            require_referable(header)
        except ImageRefusedError as error:
            return error.public
        return None

    def _of_modality(self, modality: str) -> str | None:
        if not modality or modality in self.modalities:
            return None
        return f"rules.modalities does not list {told(modality)}{self._because(known=modality in (*MODALITIES, *PHOTOGRAPH_MODALITIES))}"

    def _because(self, *, known: bool) -> str:
        """Of what another bundle would take."""
        return f": {self.bundle}" if known else ""
