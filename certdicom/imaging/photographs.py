"""Whether a header says that the image is a colour photograph: of what kind, and whether it is ours."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import UID

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.imaging.acceptance import ANYWAY, CAPTURE_NOTE, SECONDARY_CAPTURE

PHOTOGRAPH_CLASSES: Final = {
    "1.2.840.10008.5.1.4.1.1.77.1.4": "XC",
    "1.2.840.10008.5.1.4.1.1.77.1.1": "ES",
    SECONDARY_CAPTURE: "",
}
"""SOP classes of colour photographs (VL Photographic, VL Endoscopic, Secondary Capture), with the Modality that they stand for."""

PHOTOGRAPH_MODALITIES: Final = ("XC", "ES", "DMS", "OT")
"""External-camera photography, endoscopy, dermoscopy and other; PS3.3 C.7.3.1.1.1."""

_OURSELVES = "CERTDICOM"


def is_photograph(dataset: Dataset) -> bool:
    """Whether the image is to be read as a colour photograph: by its SOP class, and because its pixels are not gray."""
    gray = header.text(dataset, "PhotometricInterpretation") in ("MONOCHROME1", "MONOCHROME2", "")
    return header.text(dataset, "SOPClassUID") in PHOTOGRAPH_CLASSES and not gray


def refuse_own_picture(dataset: Dataset) -> None:
    """ImageRefusedError for a picture of a result: certified again, each would bring forth another."""
    if header.text(dataset, "SecondaryCaptureDeviceManufacturer") == _OURSELVES:
        raise ImageRefusedError("this is the picture of a result that certdicom wrote: send the image that it was made of")


def judge_photograph(dataset: Dataset) -> tuple[str, ...]:
    """What is odd about a photograph's header that passes; ImageRefusedError if it says that this is something else."""
    sop_class = header.text(dataset, "SOPClassUID")
    modality = header.text(dataset, "Modality") or PHOTOGRAPH_CLASSES[sop_class]
    if not modality:
        raise ImageRefusedError(f"Modality is missing and {UID(sop_class).name} does not tell it; {ANYWAY}")
    if modality not in PHOTOGRAPH_MODALITIES:
        known = ", ".join(PHOTOGRAPH_MODALITIES[:-1])
        raise ImageRefusedError(
            f"Modality {header.shown(modality, 16)} is not that of a colour photograph ({known} or {PHOTOGRAPH_MODALITIES[-1]}); {ANYWAY}"
        )
    return (CAPTURE_NOTE.format(modality=modality),) if sop_class == SECONDARY_CAPTURE else ()
