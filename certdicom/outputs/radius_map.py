"""How far the film may change before any decision at a pixel could: the certified radius as a Parametric Map (PS3.3 A.75).

One frame, float32, dimensionless: the L2 radius on the model grid, whose values span [0, 1]. At each pixel it is the smallest
over the structures, so that within it no structure's decision there changes. Several frames in one plane would be one
per structure, but viewers stack the frames of a map into a volume, so there is one map with one frame.

What the radii are: `certdicom.outputs.radii`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence, VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from certdicom.certification.certificate import Certificate
from certdicom.errors import UsageError
from certdicom.outputs import codes, series, statements
from certdicom.outputs.body_region import region_of
from certdicom.outputs.derived import (
    image_comments,
    inherit,
    made_by,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.radii import largest_radius, radii_on_image
from certdicom.outputs.source import Source, describe_source
from certdicom.outputs.uids import ResultIdentity, derive_uid

if TYPE_CHECKING:
    from certdicom.outputs.result import Result


def encode(result: Result) -> bytes:
    """The map as a DICOM file."""
    image, certificate = result.image, result.certificate
    return encoded(
        build_radius_map(
            image.dataset,
            radii_on_image(certificate, rows=image.rows, columns=image.columns),
            certificate,
            file_sha256=image.file_sha256,
            draw_identity=certificate.draw_identity,
        )
    )


def build_radius_map(
    dataset: Dataset, radii: NDArray[np.float32], certificate: Certificate, *, file_sha256: str, draw_identity: str
) -> ParametricMap:
    """Build the map of one film; `dataset` is not changed.

    `dataset`: its data set, pixel data not needed; `radii` (rows, columns) float32 of the film's size, `joint_radii` brought to the
    film. It lies in the same synthetic plane as the SEG with viewer geometry, and has the film's size: OHIF opens no other. Raises
    ImageRefusedError for a film that nothing can refer to, UsageError for radii of another size or kind.
    """
    wanted = (int(dataset.Rows), int(dataset.Columns))
    if radii.shape != wanted or radii.dtype != np.float32:
        raise UsageError(f"radii must be float32 {wanted} (rows, columns), not {radii.dtype} {radii.shape}; resample them to the image")
    source = describe_source(dataset, geometry="viewer")
    identity = ResultIdentity.of(
        certificate,
        source_sop_instance_uid=source.image.SOPInstanceUID,
        file_sha256=file_sha256,
        draw_identity=draw_identity,
    )
    top = max(largest_radius(certificate), float(np.finfo(np.float32).tiny))
    radius_map = ParametricMap(
        source_images=[source.image],
        pixel_array=np.ascontiguousarray(radii),
        series_instance_uid=identity.uid("radius map series"),
        **made_by(series.RADIUS_MAP, certificate),
        sop_instance_uid=identity.uid("radius map instance"),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[_mapping(top)],
        # The default function LINEAR asks for a width of at least 1.
        voi_lut_transformations=[VOILUTTransformation(window_center=top / 2, window_width=top, voi_lut_function="LINEAR_EXACT")],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_description="Certified L2 radius per pixel, smallest of all structures",
        content_creator_name="certdicom^",
        content_label="CERTIFIED_RADIUS",
        pixel_measures=_measures(source.image),
        plane_orientation=PlaneOrientationSequence("PATIENT", [float(value) for value in source.image.ImageOrientationPatient]),
        plane_positions=[PlanePositionSequence("PATIENT", [float(value) for value in source.image.ImagePositionPatient])],
    )
    _finish(radius_map, source, certificate, region=region_of(dataset, certificate) or codes.ENTIRE_BODY)
    return radius_map


def _mapping(top: float) -> RealWorldValueMapping:
    return RealWorldValueMapping(
        lut_label="RADIUS",
        lut_explanation="Certified L2 radius on the model grid, values 0 to 1",
        unit=CodedConcept(*codes.NO_UNITS),
        value_range=(0.0, top),
        slope=1.0,
        intercept=0.0,
        quantity_definition=CodedConcept(*codes.CERTIFIED_RADIUS),
    )


def _measures(image: Dataset) -> PixelMeasuresSequence:
    row, column = image.PixelSpacing
    return PixelMeasuresSequence(pixel_spacing=(float(row), float(column)), slice_thickness=1.0)


def _anatomy(region: codes.Concept) -> Dataset:
    """Where the frame lies, without which dcmqi ends in a crash."""
    item = Dataset()
    item.FrameLaterality = "U"
    item.AnatomicRegionSequence = [CodedConcept(*region)]
    return item


def _finish(radius_map: ParametricMap, source: Source, certificate: Certificate, *, region: codes.Concept) -> None:
    """What highdicom leaves random, or does not carry over from the film."""
    inherit(radius_map, source)
    radius_map.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [_anatomy(region)]
    organization = derive_uid("dimension organization", radius_map.SOPInstanceUID)
    radius_map.DimensionOrganizationSequence[0].DimensionOrganizationUID = organization
    for index in radius_map.DimensionIndexSequence:
        index.DimensionOrganizationUID = organization
    radius_map.ImageComments = image_comments(statements.radius_claim(certificate), certificate)
