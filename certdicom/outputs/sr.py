"""The certificate as a structured report: TID 1500 "Imaging Measurement Report" in a Comprehensive 3D SR (PS3.16, A.35.13).

It measures what the SEG shows and points at its segments, so that a report without its SEG does not exist. What is measured:
`certdicom.outputs.report_groups`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom import sr
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dictionary

from certdicom.certification.certificate import Certificate
from certdicom.errors import UsageError
from certdicom.outputs import codes, series
from certdicom.outputs.derived import (
    LONG_STRING,
    MANUFACTURER,
    algorithm_name,
    clip,
    device_serial_number,
    inherit,
    made_by,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.fit import require_fit
from certdicom.outputs.report_groups import MeasurementGroups
from certdicom.outputs.seg import segmentation_of
from certdicom.outputs.source import Source, describe_source
from certdicom.outputs.uids import derive_uid
from certdicom.version import VERSION

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

_NOT_OF_REPORT: Final = ("PatientOrientation", "BodyPartExamined")
"""What a film has and a report has not."""

_NOT_OF_EVIDENCE: Final = (*_NOT_OF_REPORT, "SpecificCharacterSet")
"""highdicom knows fewer character sets than films have; the report gets the film's afterwards."""


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
    groups = MeasurementGroups(source, segmentation, decisions, certificate)
    report = sr.MeasurementReport(
        observation_context=sr.ObservationContext(observer_device_context=_observer(certificate)),
        procedure_reported=CodedConcept(*codes.IMAGING_PROCEDURE),
        imaging_measurements=groups.all(),
        title=dictionary.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.insert(-1, _image_library(source))
    document = sr.Comprehensive3DSR(
        evidence=[film_reference, segmentation],
        content=report[0],
        series_instance_uid=derive_uid("report series", segmentation.SOPInstanceUID),
        **made_by(series.MEASUREMENTS, certificate),
        sop_instance_uid=derive_uid("report instance", segmentation.SOPInstanceUID),
        is_complete=True,
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
