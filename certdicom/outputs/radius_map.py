"""How far the film may change before any decision at a pixel could: the certified radius as a Parametric Map (PS3.3 A.75).

One frame, float32, dimensionless: the L2 radius on the model grid, whose values span [0, 1]. At each pixel it is the smallest
over the structures, so that within it no structure's decision there changes. Several frames in one plane would be one
per structure, but viewers stack the frames of a map into a volume, so there is one map with one frame.

R_i = σ·Φ⁻¹(p_low,i) with Clopper-Pearson lower bounds p_low,i at α / K for all K decisions at once: with confidence 1 - α
no radius of the map is too large. That is a statement of its own beside the certificate, which spends another α: both hold
together with confidence 1 - 2α. After a test with several looks, of which the draws themselves chose the last, the bounds are
taken at α / (K · looks). K is here the number of structures' decisions: unions have no radius. A radius of 0 says that not even the
majority is sure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom import PixelMeasuresSequence, PlaneOrientationSequence, PlanePositionSequence, VOILUTTransformation
from highdicom.pm import ParametricMap, RealWorldValueMapping
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian
from scipy.special import ndtri

from certdicom.certification.certificate import Certificate
from certdicom.certification.rounding import rounded_down
from certdicom.certification.statistics import simultaneous_lower_bounds
from certdicom.errors import UsageError
from certdicom.imaging.grid import spread_on
from certdicom.outputs import codes, statements
from certdicom.outputs.body_region import region_of
from certdicom.outputs.derived import (
    MANUFACTURER,
    contribution,
    device_serial_number,
    image_comments,
    inherit,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.source import Source, describe_source
from certdicom.outputs.uids import ResultIdentity, derive_uid
from certdicom.version import VERSION

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

SERIES_DESCRIPTION: Final = "Certified radius map, research use only"
SERIES_NUMBER: Final = 9004


def encode(result: Result) -> bytes:
    """The map as a DICOM file."""
    image, certificate = result.image, result.certificate
    radii = spread_on(
        certificate, joint_radii(certificate).astype(np.float32, copy=False), rows=image.rows, columns=image.columns, outside=0
    )
    return encoded(
        build_radius_map(image.dataset, radii, certificate, file_sha256=image.file_sha256, draw_identity=certificate.draw_identity)
    )


def joint_radii(certificate: Certificate) -> NDArray[np.float32]:
    """(H, W) the smallest certified radius over the structures, on the grid; 0 where nothing is sure, rounded down to float32."""
    parameters = certificate.parameters
    lower = simultaneous_lower_bounds(certificate.counts, n=certificate.draws, alpha=parameters.look_alpha).min(axis=0)
    exact = np.where(lower > 0.5, parameters.sigma * ndtri(np.maximum(lower, 0.5)), 0.0)
    rounded = exact.astype(np.float32)
    return np.where(rounded > exact, np.nextafter(rounded, np.float32(0)), rounded)


def largest_radius(certificate: Certificate) -> float:
    """What a unanimous vote of all draws is worth: no radius of the map can be larger."""
    unanimous = certificate.unanimous_bound
    return certificate.parameters.sigma * float(ndtri(unanimous)) if unanimous > 0.5 else 0.0


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
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("radius map instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="certdicom",
        software_versions=VERSION,
        device_serial_number=device_serial_number(certificate),
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
        contributing_equipment=[contribution(certificate)],
        series_description=SERIES_DESCRIPTION,
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
    radius_map.ImageComments = image_comments(
        f"No structure's majority decision under noise changes at a pixel under any change of the {certificate.medium} up to the L2 norm "
        f"shown there, in units of the model grid, {statements.terms(certificate)}, with {statements.confidence(certificate)} confidence "
        f"for all pixels together. One unit is {rounded_down(certificate.native_scale)} {certificate.native_unit}. "
        f"{statements.what_can_happen(certificate)} {statements.STABILITY} {statements.RESEARCH_USE}",
        certificate,
    )
