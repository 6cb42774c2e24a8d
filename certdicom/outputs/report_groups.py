"""The measurement groups of a report (PS3.16, TID 1410 and 1501): bounds of ratio, widths and areas, and what abstains.

A bound is a measurement whose name says of what it is and which bound ("Heart area at least"), with the standard concept as
equivalent meaning and the derivation Minimum or Maximum. Every measurement is anchored by a short line, because OHIF shows no
measurement without coordinates, writes a group's lines beside its anchor, and does not move apart what overlaps. Groups follow each
other from top to bottom with room for their lines.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from highdicom import sr
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.certification.certificate import ABSENT, Certificate
from certdicom.outputs import codes, statements
from certdicom.outputs.derived import MANUFACTURER, algorithm_name
from certdicom.outputs.measurements import (
    Bounds,
    Widths,
    abstained_percent,
    column_support,
    mask_area,
    structure_area,
    structure_widths,
)
from certdicom.outputs.segments import segments_of
from certdicom.outputs.source import Source
from certdicom.outputs.uids import derive_uid
from certdicom.version import VERSION

_MINIMUM, _MAXIMUM = CodedConcept(*codes.MINIMUM), CodedConcept(*codes.MAXIMUM)


class Anchors:
    """Where groups are anchored on a film of `rows` × `columns`: below each other, as far apart as their `lines` need.

    `lines`: how many lines each group has, in the order in which anchors will be asked for.
    """

    LINE: Final = 0.024
    """Height of a line of text in OHIF, as a share of the film's, where the film fills a viewport of about 900 pixels."""
    BETWEEN: Final = 1.2
    """Lines between two groups."""
    LENGTH: Final = 0.03
    """Length of an anchor, as a share of the film's width."""
    TOP: Final = 0.06
    LEFTMOST: Final = 0.02
    RIGHTMOST: Final = 0.5
    """Text begins right of an anchor and is not wrapped: no anchor begins further right than this share of the width."""

    def __init__(self, *, rows: int, columns: int, lines: Sequence[int]) -> None:
        self._rows, self._columns = rows, columns
        needed = sum(count + self.BETWEEN for count in lines) * self.LINE
        self._line = self.LINE * min(1.0, (1 - 2 * self.TOP) / needed)  # more groups than a film has room for move together
        self._y = self.TOP

    def next(self, mask: NDArray[np.bool_] | None, lines: int) -> NDArray[np.float64]:
        """[[column, row], [column, row]] of a group with so many lines, from the left edge of `mask` (rows, columns) in that row.

        Without a mask, or where it is empty, from near the film's left edge.
        """
        row = min(self._rows - 1, int(self._y * self._rows))
        self._y += (lines + self.BETWEEN) * self._line
        left = float(np.clip(_left_edge(mask, row), self.LEFTMOST * self._columns, self.RIGHTMOST * self._columns))
        return np.array([[left, row + 0.5], [left + max(1.0, self.LENGTH * self._columns), row + 0.5]])


class MeasurementGroups:
    """Builds the groups of one film: `decisions` (structures, rows, columns) uint8, of which `segmentation` is the SEG."""

    def __init__(self, source: Source, segmentation: Dataset, decisions: NDArray[np.uint8], certificate: Certificate) -> None:
        self._source = source
        self._segmentation = segmentation
        # What was not looked at has no part in any measurement, and the notes say so.
        rows, columns = decisions.shape[1:]
        self._decisions = certificate.on_image(certificate.analysed(decisions), rows=rows, columns=columns, outside=ABSENT)
        self._certificate = certificate
        per_structure = len(segmentation.SegmentSequence) > len(certificate.structures) + 1
        segments = segments_of(decisions, certificate, abstain="per-structure" if per_structure else "union")
        self._masks = [segment.mask for segment in segments]
        self._widths = structure_widths(self._decisions, certificate, source.spacing)
        self._unbounded = self._widths is not None and (self._widths.ratio is None or not math.isfinite(self._widths.ratio.upper))
        self._algorithm = sr.AlgorithmIdentification(
            name=algorithm_name(certificate),
            version=VERSION,
            parameters=statements.parameter_lines(certificate, extra=self._notes()),
            family=CodedConcept(*codes.ARTIFICIAL_INTELLIGENCE),
            manufacturer=MANUFACTURER,
        )

    def all(self) -> list[sr.MeasurementsAndQualitativeEvaluations]:
        """Ratio, widths, the whole film, the segments in their order."""
        image_groups = list(self._image_groups())
        segments = list(enumerate(self._segmentation.SegmentSequence, start=1))
        measured = [self._areas(number) for number, _ in segments]
        rows, columns = self._decisions.shape[1:]
        anchors = Anchors(rows=rows, columns=columns, lines=[len(items) for items in (*(items for *_, items in image_groups), *measured)])
        groups: list[sr.MeasurementsAndQualitativeEvaluations] = []
        for role, label, items in image_groups:
            group = self._image_group(role, label, items)
            groups.append(self._anchored(group, anchors.next(None, len(items))))
        for (number, segment), items in zip(segments, measured, strict=True):
            group = self._segment_group(number, segment, items)
            groups.append(self._anchored(group, anchors.next(self._masks[number - 1], len(items))))
        return groups

    def _image_groups(self) -> Iterator[tuple[str, str, list[sr.Measurement]]]:
        """(role, label, measurements) of what is measured in the whole image."""
        widths = self._widths
        if widths is not None and widths.heart_columns.upper and widths.thorax_columns.upper:
            if ratio := self._ratio(widths):
                yield "ratio", "Cardiothoracic ratio", ratio
            yield (
                "widths",
                "Widths",
                [
                    *_bounds(codes.HEART_WIDTH_BOUNDS, widths.heart, standing_for=codes.WIDTH, site=codes.HEART),
                    *_bounds(codes.THORAX_WIDTH_BOUNDS, widths.thorax, standing_for=codes.WIDTH, site=codes.LUNG),
                ],
            )
        share = abstained_percent(self._certificate.analysed(self._decisions))
        yield "film", f"Whole {self._certificate.medium}", [_measure(codes.ABSTAINED_SHARE, share, codes.PERCENT)]

    @staticmethod
    def _ratio(widths: Widths) -> list[sr.Measurement]:
        if widths.ratio is None:
            return []
        both = _bounds(codes.CTR_BOUNDS, widths.ratio)
        return both if math.isfinite(widths.ratio.upper) else both[:1]

    def _areas(self, number: int) -> list[sr.Measurement]:
        """Both bounds of a structure; of an Abstain segment its area, which is what it is."""
        if number <= len(self._certificate.structures):
            area = structure_area(self._decisions[number - 1], self._source.spacing)
            return _bounds(codes.area_bounds(self._certificate.structures[number - 1]), area, standing_for=codes.AREA)
        area = mask_area(self._masks[number - 1], self._source.spacing)
        name = codes.abstained_area(self._segmentation.SegmentSequence[number - 1].SegmentLabel)
        return [_standing_for(_measure(name, area.upper, area.unit), codes.AREA)]

    def _image_group(self, role: str, label: str, measurements: list[sr.Measurement]) -> sr.MeasurementsAndQualitativeEvaluations:
        image = self._source.image
        return sr.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(
                uid=derive_uid("tracking", role, self._segmentation.SOPInstanceUID), identifier=label
            ),
            algorithm_id=self._algorithm,
            finding_sites=None if role == "film" else [sr.FindingSite(CodedConcept(*codes.CHEST))],
            measurements=measurements,
            source_images=[
                sr.SourceImageForMeasurementGroup(
                    referenced_sop_class_uid=image.SOPClassUID, referenced_sop_instance_uid=image.SOPInstanceUID
                )
            ],
        )

    def _segment_group(
        self, number: int, segment: Dataset, measurements: list[sr.Measurement]
    ) -> sr.PlanarROIMeasurementsAndQualitativeEvaluations:
        finding = segment.SegmentedPropertyTypeCodeSequence[0]
        sites = list(segment.get("AnatomicRegionSequence", []))
        if not sites and segment.SegmentedPropertyCategoryCodeSequence[0].CodeValue == codes.ANATOMICAL_STRUCTURE[0]:
            sites = [finding]
        image = self._source.image
        return sr.PlanarROIMeasurementsAndQualitativeEvaluations(
            tracking_identifier=sr.TrackingIdentifier(uid=segment.TrackingUID, identifier=segment.TrackingID),
            referenced_segment=sr.ReferencedSegmentationFrame(
                sop_class_uid=self._segmentation.SOPClassUID,
                sop_instance_uid=self._segmentation.SOPInstanceUID,
                frame_number=number,
                segment_number=number,
                source_image=sr.SourceImageForSegmentation(image.SOPClassUID, image.SOPInstanceUID),
            ),
            finding_category=_concept(segment.SegmentedPropertyCategoryCodeSequence[0]),
            finding_type=_concept(finding),
            algorithm_id=self._algorithm,
            finding_sites=[sr.FindingSite(_concept(site)) for site in sites] or None,
            measurements=measurements,
        )

    def _anchored(
        self, group: sr.MeasurementsAndQualitativeEvaluations, line: NDArray[np.float64]
    ) -> sr.MeasurementsAndQualitativeEvaluations:
        """Give every measurement of a group the same coordinates, columns before rows: a pixel's centre is at .5 (PS3.3 C.18.6.1.2).

        highdicom takes none for a group with a segment, but TID 1410 is extensible.
        """
        image = self._source.image
        for item in group[0].ContentSequence:
            if item.ValueType == "NUM":
                region = sr.SourceImageForRegion(image.SOPClassUID, image.SOPInstanceUID)
                coordinates = sr.CoordinatesForMeasurement(
                    graphic_type=sr.GraphicTypeValues.POLYLINE, graphic_data=line, source_image=region
                )
                if "ContentSequence" not in item:
                    item.ContentSequence = sr.ContentSequence()
                item.ContentSequence.append(coordinates)
        return group

    def _notes(self) -> list[str]:
        support = column_support(self._decisions.shape[1])
        cropped = ["measurements: of the analysed part of the image alone"] if self._certificate.crop else []
        unbounded = ["cardiothoracic ratio: nothing bounds it from above, so that it has no upper bound here"] if self._unbounded else []
        return [
            "bounds: where all certificates hold, the smoothed model's value is between Minimum and Maximum for every image within "
            "the radius",
            f"widths: between the outermost columns that hold at least {support} pixels of the structure; thorax is the union of the lungs",
            "cardiothoracic ratio: heart width over thorax width, lower over upper bound and upper over lower bound",
            *unbounded,
            f"lengths: {_length_note(self._source)}",
            "coordinates: short lines that tell viewers where to write; nothing was measured along them",
            *cropped,
        ]


def _bounds(
    names: tuple[codes.Concept, codes.Concept],
    bounds: Bounds,
    *,
    standing_for: codes.Concept | None = None,
    site: codes.Concept | None = None,
) -> list[sr.Measurement]:
    """Lower and upper bound; `standing_for`: the standard concept that their names make more precise."""
    measured = [
        _measure(name, value, bounds.unit, derivation=derivation, site=site)
        for name, value, derivation in zip(names, (bounds.lower, bounds.upper), (_MINIMUM, _MAXIMUM), strict=True)
        if math.isfinite(value)
    ]
    return measured if standing_for is None else [_standing_for(measurement, standing_for) for measurement in measured]


def _measure(
    name: codes.Concept,
    value: float,
    unit: codes.Concept,
    *,
    derivation: CodedConcept | None = None,
    site: codes.Concept | None = None,
) -> sr.Measurement:
    return sr.Measurement(
        name=CodedConcept(*(name if value else codes.saying_zero(name))),
        value=value,
        unit=CodedConcept(*unit),
        derivation=derivation,
        finding_sites=None if site is None else [sr.FindingSite(CodedConcept(*site))],
    )


def _standing_for(measurement: sr.Measurement, concept: codes.Concept) -> sr.Measurement:
    """Add the standard concept that a name of ours makes more precise (TID 1210), for programs that look for it."""
    equivalent = sr.CodeContentItem(
        name=CodedConcept(*codes.EQUIVALENT_MEANING),
        value=CodedConcept(*concept),
        relationship_type=sr.RelationshipTypeValues.HAS_CONCEPT_MOD,
    )
    if "ContentSequence" not in measurement[0]:
        measurement[0].ContentSequence = sr.ContentSequence()
    measurement[0].ContentSequence.insert(0, equivalent)
    return measurement


def _concept(item: Dataset) -> CodedConcept:
    return CodedConcept(item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning)


def _left_edge(mask: NDArray[np.bool_] | None, row: int) -> float:
    """Column of the left end of the longest run of the mask in the row nearest to `row` that has any; 0 without one."""
    if mask is None or not mask.any():
        return 0.0
    rows = np.flatnonzero(mask.any(axis=1))
    nearest = mask[rows[np.abs(rows - row).argmin()]]
    edges = np.flatnonzero(np.diff(np.concatenate([[False], nearest, [False]]).astype(np.int8)))
    starts, ends = edges[::2], edges[1::2]
    return float(starts[(ends - starts).argmax()])


def _length_note(source: Source) -> str:
    if source.spacing.keyword is None:
        return "pixels, because the image states no usable spacing"
    plane = "the detector's plane" if source.spacing.keyword == "ImagerPixelSpacing" else "the plane that the image states"
    return f"millimetres in {plane} ({source.spacing.keyword}), not corrected for magnification"
