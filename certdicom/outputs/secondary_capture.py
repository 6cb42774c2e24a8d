"""Pictures of a result as Secondary Captures (PS3.3 A.8.1), which every archive and viewer shows next to the film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from certdicom.certification.certificate import Certificate
from certdicom.errors import UsageError
from certdicom.outputs import codes, series, statements
from certdicom.outputs.derived import (
    MANUFACTURER,
    SHORT_TEXT,
    clip,
    image_comments,
    inherit,
    leave_laterality_open,
    made_by,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.preview import picture_of
from certdicom.outputs.series import Series
from certdicom.outputs.source import describe_source
from certdicom.outputs.uids import ResultIdentity
from certdicom.version import VERSION

if TYPE_CHECKING:
    from certdicom.outputs.result import Result


@dataclass(frozen=True)
class Shown:
    """What a capture shows: `role` begins its UIDs; `kind` is the third value of ImageType; `description`: what is drawn on the medium;
    `claim`: what is claimed of it.
    """

    role: str
    kind: str
    series: Series
    description: str
    claim: Callable[[Certificate], str]


OVERLAY: Final = Shown(
    role="capture",
    kind="OVERLAY",
    series=series.OVERLAY,
    description="with certified structures outlined, abstention hatched, legend",
    claim=partial(statements.claim, subject=statements.UNHATCHED),
)


def encode(result: Result) -> bytes:
    """The preview as a DICOM file."""
    return encode_capture(result, picture_of(result), OVERLAY)


def encode_capture(result: Result, picture: Image.Image, shown: Shown) -> bytes:
    """A picture of a result as a DICOM file."""
    image, certificate = result.image, result.certificate
    return encoded(
        build_secondary_capture(
            image.dataset,
            np.asarray(picture),
            certificate,
            shown=shown,
            file_sha256=image.file_sha256,
            draw_identity=certificate.draw_identity,
        )
    )


def build_secondary_capture(
    dataset: Dataset, picture: NDArray[np.uint8], certificate: Certificate, *, file_sha256: str, draw_identity: str, shown: Shown = OVERLAY
) -> SCImage:
    """Build the capture of one film or photograph; `dataset` is not changed.

    `dataset`: its data set, pixel data not needed; `picture` (rows, columns, 3) uint8 RGB, of any size; `shown`: what is seen on it;
    `file_sha256`: digest of the film's bytes; `draw_identity`: fingerprint of the noise seed. It carries no pixel spacing: the picture
    is scaled and has a legend, and nobody should measure in it. Raises ImageRefusedError for a film that nothing can refer to,
    UsageError for a picture that is none.
    """
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise UsageError(f"the picture must be uint8 (rows, columns, 3), not {picture.dtype} {picture.shape}")
    source = describe_source(dataset, geometry="none")
    identity = ResultIdentity.of(
        certificate,
        source_sop_instance_uid=source.image.SOPInstanceUID,
        file_sha256=file_sha256,
        draw_identity=draw_identity,
    )
    capture = SCImage(
        pixel_array=picture,
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        study_instance_uid=source.image.StudyInstanceUID,
        series_instance_uid=identity.uid(f"{shown.role} series"),
        **made_by(shown.series, certificate),
        sop_instance_uid=identity.uid(f"{shown.role} instance"),
        patient_orientation=("L", "F"),  # required here; the film's own, or none, takes its place below
        transfer_syntax_uid=ExplicitVRLittleEndian,
    )
    capture.ImageType = ["DERIVED", "SECONDARY", shown.kind]
    capture.PatientOrientation = None
    capture.SecondaryCaptureDeviceManufacturer = MANUFACTURER
    capture.SecondaryCaptureDeviceManufacturerModelName = "certdicom"
    capture.SecondaryCaptureDeviceSoftwareVersions = VERSION
    if dataset.get("BurnedInAnnotation") in ("YES", "NO"):
        capture.BurnedInAnnotation = dataset.BurnedInAnnotation  # the film is in the picture; the legend names the model and no patient
    description = f"{certificate.medium.capitalize()} {shown.description}. {statements.RESEARCH_USE}"
    capture.DerivationDescription = clip(description, SHORT_TEXT)
    for keyword in ("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in source.image:
            setattr(capture, keyword, source.image[keyword].value)
    capture.SourceImageSequence = [_reference(source.image)]
    capture.ImageComments = image_comments(shown.claim(certificate), certificate)
    inherit(capture, source)
    leave_laterality_open(capture)
    return capture


def _reference(image: Dataset) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = image.SOPClassUID
    item.ReferencedSOPInstanceUID = image.SOPInstanceUID
    item.PurposeOfReferenceCodeSequence = [CodedConcept(*codes.SOURCE_IMAGE)]
    return item
