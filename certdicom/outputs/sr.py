"""The certificate as a structured report: TID 1500 "Imaging Measurement Report" in a Comprehensive 3D SR (PS3.16, A.35.13).

It measures what the SEG shows and points at its segments, so that a report without its SEG does not exist. Bounds are pairs of
measurements with names of their own, the standard concept as equivalent meaning, and the derivations Minimum and Maximum.
Groups, in this order: the widths with the lines along which they were taken (where there is a heart and a thorax), the film, each
structure, Abstain. OHIF shows the first group, and shows nothing unless every group has coordinates: widths have lines, the film
its outline, segments a point inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom import sr
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from certdicom.certification.certificate import ABSENT, PRESENT, Certificate
from certdicom.errors import UsageError
from certdicom.outputs import codes, statements
from certdicom.outputs.derived import (
    LONG_STRING,
    MANUFACTURER,
    algorithm_name,
    clip,
    contribution,
    device_serial_number,
    inherit,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.fit import require_fit
from certdicom.outputs.measurements import (
    Bounds,
    Widths,
    abstained_percent,
    column_support,
    mask_area,
    structure_area,
    structure_widths,
)
from certdicom.outputs.seg import segmentation_of
from certdicom.outputs.segments import segments_of
from certdicom.outputs.source import Source, describe_source
from certdicom.outputs.uids import derive_uid
from certdicom.version import VERSION

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

SERIES_DESCRIPTION: Final = "Certified measurements, research use only"
SERIES_NUMBER: Final = 9002

_NOT_OF_REPORT: Final = ("PatientOrientation", "BodyPartExamined")
"""What a film has and a report has not."""

_NOT_OF_EVIDENCE: Final = (*_NOT_OF_REPORT, "SpecificCharacterSet")
"""highdicom knows fewer character sets than films have; the report gets the film's afterwards."""

_MINIMUM, _MAXIMUM = CodedConcept(*codes.MINIMUM), CodedConcept(*codes.MAXIMUM)
_GAP = 60
"""The line of an upper bound lies a sixtieth of the film below that of the lower one, so that both are seen."""


def encode(result: Result) -> bytes:
    """The SR as a DICOM file."""
    return encoded(build_measurement_report(result.image.dataset, segmentation_of(result), result.decisions, result.certificate))


def build_measurement_report(
    dataset: Dataset, segmentation: Dataset, decisions: NDArray[np.uint8], certificate: Certificate
) -> sr.Comprehensive3DSR:
    """Build the report of one film or photograph; neither `dataset` nor `segmentation` is changed.

    `dataset`: its data set, pixel data not needed; `segmentation`: the SEG built from the same `decisions` (structures, rows,
    columns) uint8 and the same certificate. Raises ImageRefusedError for a film that nothing can refer to, UsageError for
    a segmentation of another film or other structures.
    """
    source = describe_source(dataset, geometry="none")
    _require_match(source, segmentation, decisions, certificate)
    film_reference = _evidence(source)
    groups = _Groups(source, segmentation, decisions, certificate)
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(certificate)),
        procedure_reported=CodedConcept(*codes.IMAGING_PROCEDURE),
        imaging_measurements=list(groups.all()),
        title=dictionary.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.insert(-1, _image_library(source))
    document = sr.Comprehensive3DSR(
        evidence=[film_reference, segmentation],
        content=report[0],
        series_instance_uid=derive_uid("report series", segmentation.SOPInstanceUID),
        series_number=SERIES_NUMBER,
        sop_instance_uid=derive_uid("report instance", segmentation.SOPInstanceUID),
        instance_number=1,
        manufacturer=MANUFACTURER,
        is_complete=True,
        series_description=SERIES_DESCRIPTION,
        manufacturer_model_name="certdicom",
        software_versions=VERSION,
        device_serial_number=device_serial_number(certificate),
        contributing_equipment=[contribution(certificate)],
    )
    _drop_frame_numbers_beside_segments(document)
    _declare_private_scheme(document)
    inherit(document, source, without=_NOT_OF_REPORT)
    return document


def _require_match(source: Source, segmentation: Dataset, decisions: NDArray[np.uint8], certificate: Certificate) -> None:
    require_fit(decisions, certificate, rows=source.image.Rows, columns=source.image.Columns)
    references = {
        instance.ReferencedSOPInstanceUID
        for series in segmentation.ReferencedSeriesSequence
        for instance in series.ReferencedInstanceSequence
    }
    if source.image.SOPInstanceUID not in references:
        raise UsageError("the segmentation refers to another film; build it from this one")
    labels = [clip(structure.label, LONG_STRING) for structure in certificate.structures]
    if [segment.SegmentLabel for segment in segmentation.SegmentSequence][: len(labels)] != labels:
        raise UsageError("the segmentation has other structures than the certificate; build it from this one")


def _evidence(source: Source) -> Dataset:
    """The film as evidence: who, which study and which image, and nothing that could fail in the header of a strange film."""
    dataset = Dataset()
    dataset.update(source.image)
    dataset.update({element.tag: element for element in source.inheritance.elements if element.keyword not in _NOT_OF_EVIDENCE})
    return dataset


def _image_library(source: Source) -> sr.ContainerContentItem:
    """TID 1600 with the film alone; highdicom's own wants attributes that many films lack."""
    contains = sr.RelationshipTypeValues.CONTAINS
    library = sr.ContainerContentItem(name=dictionary.DCM.ImageLibrary, relationship_type=contains)
    group = sr.ContainerContentItem(name=dictionary.DCM.ImageLibraryGroup, relationship_type=contains)
    image = sr.ImageContentItem(
        name=dictionary.SCT.Source,
        referenced_sop_class_uid=source.image.SOPClassUID,
        referenced_sop_instance_uid=source.image.SOPInstanceUID,
        relationship_type=contains,
    )
    group.ContentSequence = sr.ContentSequence([image])
    library.ContentSequence = sr.ContentSequence([group])
    return library


def _observer(certificate: Certificate) -> sr.ObserverContext:
    return sr.ObserverContext(
        observer_type=CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=derive_uid("device", certificate.bundle_sha256, VERSION),
            name="certdicom",
            manufacturer_name=MANUFACTURER,
            model_name=algorithm_name(certificate),
            serial_number=device_serial_number(certificate),
        ),
    )


class _Groups:
    """Builds the measurement groups of one film."""

    def __init__(self, source: Source, segmentation: Dataset, decisions: NDArray[np.uint8], certificate: Certificate) -> None:
        self.source = source
        self.segmentation = segmentation
        # What was not looked at has no part in any measurement, and the notes say so.
        rows, columns = decisions.shape[1:]
        self.decisions = certificate.on_image(certificate.analysed(decisions), rows=rows, columns=columns, outside=ABSENT)
        self.certificate = certificate
        self.widths = structure_widths(self.decisions, certificate, source.spacing)
        per_structure = len(segmentation.SegmentSequence) > len(certificate.structures) + 1
        segments = segments_of(decisions, certificate, abstain="per-structure" if per_structure else "union")
        self._masks = [segment.mask for segment in segments]
        self.algorithm = sr.AlgorithmIdentification(
            name=algorithm_name(certificate),
            version=VERSION,
            parameters=statements.parameter_lines(certificate, extra=_notes(source, certificate, decisions.shape[1])),
            family=CodedConcept(*codes.ARTIFICIAL_INTELLIGENCE),
            manufacturer=MANUFACTURER,
        )

    def all(self) -> Iterator[sr.MeasurementsAndQualitativeEvaluations]:
        # Lines come first because OHIF opens the first group; where nothing is certified or open there are none to draw.
        if self.widths is not None and self.widths.heart_columns.upper and self.widths.thorax_columns.upper:
            yield self._width_group(self.widths)
        yield self._film_group()
        for number, segment in enumerate(self.segmentation.SegmentSequence, start=1):
            yield self._segment_group(number, segment)

    def _tracking(self, role: str, label: str) -> sr.TrackingIdentifier:
        return sr.TrackingIdentifier(uid=derive_uid("tracking", role, self.segmentation.SOPInstanceUID), identifier=label)

    def _width_group(self, widths: Widths) -> sr.MeasurementsAndQualitativeEvaluations:
        measurements = []
        if widths.ratio is not None:
            measurements.append(_measure(codes.CTR_LOWER, widths.ratio.lower, codes.RATIO))
            if math.isfinite(widths.ratio.upper):
                measurements.append(_measure(codes.CTR_UPPER, widths.ratio.upper, codes.RATIO))
        heart = self._planes({codes.HEART[:2]})
        lungs = self._planes(set(codes.LUNGS))
        measurements += self._width(widths.heart, heart, codes.HEART, names=codes.HEART_WIDTH_BOUNDS)
        measurements += self._width(widths.thorax, lungs, codes.LUNG, names=codes.THORAX_WIDTH_BOUNDS)
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking("widths", "Cardiothoracic ratio"),
            algorithm_id=self.algorithm,
            finding_sites=[sr.FindingSite(CodedConcept(*codes.CHEST))],
            measurements=measurements,
            source_images=[
                sr.SourceImageForMeasurementGroup(
                    referenced_sop_class_uid=self.source.image.SOPClassUID, referenced_sop_instance_uid=self.source.image.SOPInstanceUID
                )
            ],
        )

    def _planes(self, wanted: set[tuple[str, str]]) -> NDArray[np.uint8]:
        chosen = [structure.code[:2] in wanted for structure in self.certificate.structures]
        return np.asarray(self.decisions[np.asarray(chosen)])

    def _width(
        self, bounds: Bounds, planes: NDArray[np.uint8], site: codes.Concept, *, names: tuple[codes.Concept, codes.Concept]
    ) -> Iterator[sr.Measurement]:
        masks = ((planes == PRESENT).any(axis=0), (planes != ABSENT).any(axis=0))
        rows = self.decisions.shape[1]
        middle = _middle_row(masks[0] if masks[0].any() else masks[1])
        for name, mask, value, derivation, row in (
            (names[0], masks[0], bounds.lower, _MINIMUM, middle),
            (names[1], masks[1], bounds.upper, _MAXIMUM, min(rows - 1, middle + max(1, rows // _GAP))),
        ):
            ends = _ends(mask, column_support(rows))
            line = None
            if ends is not None:
                points = np.array([[ends[0], row + 0.5], [ends[1] + 1, row + 0.5]])
                line = [self._coordinates(sr.GraphicTypeValues.POLYLINE, points)]
            measurement = sr.Measurement(
                name=CodedConcept(*name),
                value=value,
                unit=CodedConcept(*bounds.unit),
                derivation=derivation,
                finding_sites=[sr.FindingSite(CodedConcept(*site))],
                referenced_coordinates=line,
            )
            yield _standing_for(measurement, codes.WIDTH)

    def _coordinates(self, graphic_type: sr.GraphicTypeValues, points: NDArray[np.float64]) -> sr.CoordinatesForMeasurement:
        """Image relative coordinates, columns before rows: a pixel's centre is at .5 (PS3.3 C.18.6.1.2)."""
        return sr.CoordinatesForMeasurement(graphic_type=graphic_type, graphic_data=points, source_image=self._region_image())

    def _film_outline(self) -> NDArray[np.float64]:
        rows, columns = self.decisions.shape[1:]
        return np.array([[0, 0], [columns, 0], [columns, rows], [0, rows], [0, 0]], np.float64)

    def _region_image(self) -> sr.SourceImageForRegion:
        return sr.SourceImageForRegion(self.source.image.SOPClassUID, self.source.image.SOPInstanceUID)

    def _film_group(self) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=self._tracking("film", f"Whole {self.certificate.medium}"),
            referenced_region=sr.ImageRegion(sr.GraphicTypeValues.POLYLINE, self._film_outline(), self._region_image()),
            algorithm_id=self.algorithm,
            measurements=[_measure(codes.ABSTAINED_SHARE, abstained_percent(self.certificate.analysed(self.decisions)), codes.PERCENT)],
        )

    def _segment_group(self, number: int, segment: Dataset) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
        finding = segment.SegmentedPropertyTypeCodeSequence[0]
        sites = list(segment.get("AnatomicRegionSequence", []))
        if not sites and segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.ANATOMICAL_STRUCTURE[0]:
            sites = [finding]
        group = sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
            referenced_segment=sr.ReferencedSegmentationFrame(
                sop_class_uid=self.segmentation.SOPClassUID,
                sop_instance_uid=self.segmentation.SOPInstanceUID,
                frame_number=number,
                segment_number=number,
                source_image=sr.SourceImageForSegmentation(self.source.image.SOPClassUID, self.source.image.SOPInstanceUID),
            ),
            finding_category=_concept(segment.SegmentedPropertyCategoryCodeSequence[0]),
            finding_type=_concept(finding),
            algorithm_id=self.algorithm,
            finding_sites=[sr.FindingSite(_concept(site)) for site in sites] or None,
            measurements=list(self._areas(number)),
        )
        self._point_at(self._masks[number - 1], group)
        return group

    def _point_at(self, mask: NDArray[np.bool_], group: sr.PlanarROIMeasurementsAndQualitativeEvaluations) -> None:
        """Say by a point where the segment's measurements belong, or by the film's outline that it is nowhere.

        TID 1410 is extensible, and OHIF 3.13 shows no report at all in which one group has no coordinates.
        """
        place = _inner_point(mask)
        for item in group[0].ContentSequence:
            if item.ValueType == "NUM":
                if place is None:
                    coordinates = self._coordinates(sr.GraphicTypeValues.POLYLINE, self._film_outline())
                else:
                    coordinates = self._coordinates(sr.GraphicTypeValues.POINT, np.array([place]))
                if "ContentSequence" not in item:
                    item.ContentSequence = sr.ContentSequence()
                item.ContentSequence.append(coordinates)

    def _areas(self, number: int) -> Iterator[sr.Measurement]:
        """Both bounds of a structure; of an Abstain segment its area, which is what it is."""
        if number <= len(self.certificate.structures):
            bounds = structure_area(self.decisions[number - 1], self.source.spacing)
            values = (bounds.lower, bounds.upper)
            for name, value, derivation in zip(codes.AREA_BOUNDS, values, (_MINIMUM, _MAXIMUM), strict=True):
                yield _standing_for(_measure(name, value, bounds.unit, derivation=derivation), codes.AREA)
        else:
            area = mask_area(self._masks[number - 1], self.source.spacing)
            yield _measure(codes.AREA, area.upper, area.unit)


def _measure(name: codes.Concept, value: float, unit: codes.Concept, *, derivation: CodedConcept | None = None) -> sr.Measurement:
    return sr.Measurement(name=CodedConcept(*name), value=value, unit=CodedConcept(*unit), derivation=derivation)


def _standing_for(measurement: sr.Measurement, concept: codes.Concept) -> sr.Measurement:
    """Add the standard concept that a name of ours makes more precise (TID 1210), for programs that look for it."""
    equivalent = sr.CodeContentItem(
        name=CodedConcept(*codes.EQUIVALENT_MEANING),
        value=CodedConcept(*concept),
        relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
    )
    measurement[0].ContentSequence.insert(0, equivalent)
    return measurement


def _concept(item: Dataset) -> CodedConcept:
    return CodedConcept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)


def _ends(mask: NDArray[np.bool_], support: int) -> tuple[int, int] | None:
    """First and last column that count for the width; None where there are none."""
    columns = np.flatnonzero(mask.sum(axis=0) >= support)
    return (int(columns[0]), int(columns[-1])) if columns.size else None


def _inner_point(mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    """(column, row) in the middle of the longest run of the fullest row; None for an empty mask."""
    row = int(mask.sum(axis=1).argmax())
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask[row], [False]]).astype(np.int8)))
    if not edges.size:
        return None
    starts, ends = edges[::2], edges[1::2]
    longest = int((ends - starts).argmax())
    return (int(starts[longest]) + int(ends[longest]) - 1) // 2 + 0.5, row + 0.5


def _middle_row(mask: NDArray[np.bool_]) -> int:
    rows = np.flatnonzero(mask.any(axis=1))
    return int(rows[len(rows) // 2]) if rows.size else 0


def _notes(source: Source, certificate: Certificate, rows: int) -> list[str]:
    support = column_support(rows)
    cropped = ["measurements: of the analysed part of the image alone"] if certificate.crop else []
    return [
        "bounds: where all certificates hold, the smoothed model's value is between Minimum and Maximum for every image within the radius",
        f"widths: between the outermost columns that hold at least {support} pixels of the structure; thorax is the union of the lungs",
        "cardiothoracic ratio: heart width over thorax width, lower over upper bound and upper over lower bound",
        f"lengths: {_length_note(source)}",
        *cropped,
    ]


def _length_note(source: Source) -> str:
    if source.spacing.keyword is None:
        return "pixels, because the image states no usable spacing"
    plane = "the detector's plane" if source.spacing.keyword == "ImagerPixelSpacing" else "the plane that the image states"
    return f"millimetres in {plane} ({source.spacing.keyword}), not corrected for magnification"


def _drop_frame_numbers_beside_segments(document: Dataset) -> None:
    """Highdicom writes both, but a reference is to frames or to segments (PS3.3 table 10-3, type 1C each)."""
    for item in _items(document):
        if "ReferencedSegmentNumber" in item and "ReferencedFrameNumber" in item:
            del item.ReferencedFrameNumber


def _items(dataset: Dataset) -> Iterator[Dataset]:
    for element in dataset:
        if element.VR == "SQ":
            for item in element.value:
                yield item
                yield from _items(item)


def _declare_private_scheme(document: Dataset) -> None:
    scheme = Dataset()
    scheme.CodingSchemeDesignator = codes.PRIVATE_SCHEME
    scheme.CodingSchemeName = codes.PRIVATE_SCHEME_NAME
    scheme.CodingSchemeResponsibleOrganization = MANUFACTURER
    document.CodingSchemeIdentificationSequence = [scheme]
