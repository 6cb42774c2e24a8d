"""The certified segmentation as a DICOM SEG: one BINARY segment per structure, and what is not certified as Abstain.

PS3.3 A.51 (Segmentation IOD) and C.8.20; the plane that viewers need is described in `certdicom.outputs.source`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import Segmentation, SegmentDescription
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from certdicom.certification.certificate import ABSTAIN, Certificate
from certdicom.errors import UsageError
from certdicom.outputs import codes, series, statements
from certdicom.outputs.body_region import region_of
from certdicom.outputs.derived import (
    LONG_STRING,
    SHORT_TEXT,
    algorithm_identification,
    clip,
    image_comments,
    inherit,
    made_by,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.fit import require_fit
from certdicom.outputs.segments import AbstainSegments, Segment, segments_of
from certdicom.outputs.series import Series
from certdicom.outputs.source import Geometry, Source, describe_source
from certdicom.outputs.uids import ResultIdentity, derive_uid

if TYPE_CHECKING:
    from certdicom.outputs.result import Result


def encode(result: Result) -> bytes:
    """The SEG as a DICOM file."""
    return encoded(segmentation_of(result))


def segmentation_of(result: Result) -> Segmentation:
    """The SEG of a result, built once: the SR refers to it."""
    return result.once(_built)


def _built(result: Result) -> Segmentation:
    image, certificate = result.image, result.certificate
    return build_segmentation(
        image.dataset,
        result.decisions,
        certificate,
        file_sha256=image.file_sha256,
        draw_identity=certificate.draw_identity,
        geometry=result.geometry,
        abstain=result.abstain,
    )


def build_segmentation(
    dataset: Dataset,
    decisions: NDArray[np.uint8],
    certificate: Certificate,
    *,
    file_sha256: str,
    draw_identity: str,
    geometry: Geometry = "viewer",
    abstain: AbstainSegments = "union",
    deflated: bool = False,
) -> Segmentation:
    """Build the SEG of one film or photograph; `dataset` is not changed.

    `dataset`: its data set, pixel data not needed; `decisions` (structures, rows, columns) uint8 of ABSENT, PRESENT,
    ABSTAIN, of the film's size; `file_sha256`: digest of the film's bytes; `draw_identity`: fingerprint of the noise
    seed; `geometry`: "viewer" places the film in a synthetic identity plane, which OHIF and 3D Slicer need, "none"
    leaves geometry out; `abstain`: "per-structure" puts one Abstain segment per structure before the union;
    `deflated`: Deflated Explicit VR Little Endian, about a hundredth of the size.
    Segment numbers follow the certificate's structures; the union Abstain segment is last and always there.
    Raises ImageRefusedError for a film that a SEG cannot refer to, UsageError for decisions that do not fit it.
    """
    _require_options(geometry, abstain)
    require_fit(decisions, certificate, rows=int(dataset.Rows), columns=int(dataset.Columns))
    if decisions.dtype != np.uint8 or int(decisions.max(initial=0)) > ABSTAIN:
        raise UsageError(f"decisions must be uint8 of 0, 1 and 2, not {decisions.dtype} up to {decisions.max(initial=0)}")
    source = describe_source(dataset, geometry=geometry)
    identity = ResultIdentity.of(
        certificate,
        source_sop_instance_uid=source.image.SOPInstanceUID,
        file_sha256=file_sha256,
        draw_identity=draw_identity,
        geometry=geometry,
        abstain=abstain,
    )
    form = Form(
        role="segmentation",
        series=series.SEGMENTATION,
        label="CERTIFIED",
        description="Certified present per structure; Abstain is not certified",
        comments=statements.claim(certificate, subject=statements.OUTSIDE),
    )
    segmentation = assemble(
        dataset, source, segments_of(decisions, certificate, abstain=abstain), certificate, identity=identity, form=form
    )
    if deflated:
        segmentation.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return segmentation


@dataclass(frozen=True)
class Form:
    """What a SEG says of itself: `role` begins its UIDs; `label` and `description` of its content; `comments` on the image."""

    role: str
    series: Series
    label: str
    description: str
    comments: str


def assemble(
    dataset: Dataset, source: Source, segments: Sequence[Segment], certificate: Certificate, *, identity: ResultIdentity, form: Form
) -> Segmentation:
    """A SEG of these segments, in this order, over the film `dataset` that `source` describes."""
    algorithm, region = algorithm_identification(certificate), region_of(dataset, certificate)
    segmentation = Segmentation(
        source_images=[source.image],
        pixel_array=_stack([segment.mask for segment in segments]),
        segmentation_type="BINARY",
        segment_descriptions=[
            _describe(number, segment, region=region, algorithm=algorithm, identity=identity)
            for number, segment in enumerate(segments, start=1)
        ],
        series_instance_uid=identity.uid(f"{form.role} series"),
        **made_by(form.series, certificate),
        sop_instance_uid=identity.uid(f"{form.role} instance"),
        content_label=form.label,
        content_description=clip(form.description, LONG_STRING),
        content_creator_name="certdicom^",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
    )
    _finish(segmentation, source)
    segmentation.ImageComments = image_comments(form.comments, certificate)
    return segmentation


def _require_options(geometry: str, abstain: str) -> None:
    if geometry not in ("viewer", "none"):
        raise UsageError(f"geometry must be 'viewer' or 'none', not {geometry!r}")
    if abstain not in ("union", "per-structure"):
        raise UsageError(f"abstain must be 'union' or 'per-structure', not {abstain!r}")


def _stack(masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.uint8]:
    """(1, rows, columns, segments) as highdicom wants it, each segment contiguous in memory so that packing it is fast."""
    return np.stack(masks).view(np.uint8).transpose(1, 2, 0)[np.newaxis]


def _describe(
    number: int,
    segment: Segment,
    *,
    region: codes.Concept | None,
    algorithm: AlgorithmIdentificationSequence,
    identity: ResultIdentity,
) -> SegmentDescription:
    label = clip(segment.structure.label, LONG_STRING)
    described = SegmentDescription(
        segment_number=number,
        segment_label=label,
        segmented_property_category=CodedConcept(*segment.category),
        segmented_property_type=CodedConcept(*segment.structure.code),
        algorithm_type="AUTOMATIC",
        algorithm_identification=algorithm,
        tracking_id=label,
        tracking_uid=identity.uid(f"tracking {number}"),
        anatomic_regions=None if segment.is_anatomy or region is None else [CodedConcept(*region)],
        display_color=CIELabColor.from_rgb(*segment.structure.rgb),
    )
    described.SegmentDescription = clip(segment.description, SHORT_TEXT)
    return described


def _finish(segmentation: Segmentation, source: Source) -> None:
    """What highdicom leaves random, or does not carry over from the film."""
    inherit(segmentation, source)
    if "FrameOfReferenceUID" not in segmentation and "PatientOrientation" not in segmentation:
        segmentation.PatientOrientation = None  # type 2C: required, but may be empty, where there is no plane (PS3.3 C.7.6.1)
    organization = derive_uid("dimension organization", segmentation.SOPInstanceUID)
    segmentation.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in segmentation.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
