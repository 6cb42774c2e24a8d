"""What a result says of itself: SEG, SR, picture, radius map and presentation state read back, for whoever receives one.

Everything is taken from the object, nothing is computed anew but shares of its pixels. Objects of other software are not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset

from certdicom.errors import ImageRefusedError
from certdicom.imaging import header
from certdicom.outputs import OUTPUTS, SEG, Output

_PRODUCT: Final = "certdicom"
"""ManufacturerModelName of every result."""

_ALGORITHM_PARAMETERS: Final = ("111002", "DCM")
_MEASUREMENT_GROUP: Final = ("125007", "DCM")
_TRACKING: Final = ("112039", "DCM")
_FINDING: Final = ("121071", "DCM")
_TOLD: Final = ("claim: ", "limits: ", "note: ")
"""How the lines of a report's parameters begin that are sentences."""


_TOLD_APART: Final[Mapping[str, Callable[[Dataset], bool]]] = {
    "drawn_seg": lambda dataset: _text(dataset, "ContentLabel") == "DRAWING",
    "radius_sc": lambda dataset: "RADIUS" in map(str, header.values(dataset, "ImageType")),
}
"""Outputs whose SOP class another one has too, and what tells them apart."""


@dataclass(frozen=True, kw_only=True)
class ResultDescription:
    """A result without anything about the patient.

    `kind`: name in `OUTPUTS`; `claim`: what it certifies, in its own words; `film`: SOP Instance UID of the image that it is of;
    `parameters`: the certificate's, by their names in the object, where it holds them; `shares`: of the image's pixels, by segment;
    `measurements`: (name, value, unit) of a report; `radii`: a map's smallest, middle and largest radius, on the model grid.
    """

    kind: str
    claim: str
    software: str
    bundle: str
    bundle_sha256: str
    film: str
    rows: int | None = None
    columns: int | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    measurements: tuple[tuple[str, float, str], ...] = ()
    radii: tuple[float, float, float] | None = None


def describe_result(dataset: Dataset) -> ResultDescription | None:
    """What the object says of itself; None where certdicom did not write it. ImageRefusedError where it is damaged."""
    kinds = [output for output in OUTPUTS if output.sop_class and output.sop_class == _text(dataset, "SOPClassUID")]
    if not kinds or _text(dataset, "ManufacturerModelName") != _PRODUCT:
        return None
    kind = next((output for output in kinds if _TOLD_APART.get(output.name, lambda _: False)(dataset)), kinds[0])
    try:
        return _described(dataset, kind)
    except Exception as problem:  # pydicom raises nearly anything over a damaged object
        raise ImageRefusedError("this is a result of certdicom's that cannot be read: it is damaged, or was changed") from problem


def _described(dataset: Dataset, kind: Output) -> ResultDescription:
    readers = {"seg": _of_segmentation, "sr": _of_report, "radius_map": _of_radius_map, "gsps": _of_presentation_state}
    read = readers.get(kind.name, lambda _: {})(dataset)
    return ResultDescription(
        kind=kind.name,
        software=f"certdicom {_text(dataset, 'SoftwareVersions')}",
        bundle=_bundle(dataset),
        bundle_sha256=_text(dataset, "DeviceSerialNumber"),
        film=_film(dataset),
        rows=header.whole(dataset, "Rows"),
        columns=header.whole(dataset, "Columns"),
        **{"claim": _text(dataset, "ImageComments"), **read},
    )


def _text(dataset: Dataset, keyword: str) -> str:
    """The first value of an attribute as it is written, without blanks around it; "" if absent."""
    return next((str(value).strip(" \0") for value in header.values(dataset, keyword)), "")


def _bundle(dataset: Dataset) -> str:
    """The bundle's name, which stands as a software version of the contribution."""
    for item in header.items(dataset, "ContributingEquipmentSequence"):
        for version in map(str, header.values(item, "SoftwareVersions")):
            if version.startswith("bundle "):
                return version.removeprefix("bundle ")
    return ""


def _film(dataset: Dataset) -> str:
    """The image that the result is of: it alone is referred to, and by a report its SEG too."""
    for keyword in ("ReferencedSeriesSequence", "SourceImageSequence", "CurrentRequestedProcedureEvidenceSequence"):
        for reference in _references(dataset, keyword):
            if _text(reference, "ReferencedSOPClassUID") != SEG.sop_class:
                return _text(reference, "ReferencedSOPInstanceUID")
    return ""


def _references(dataset: Dataset, keyword: str) -> Iterator[Dataset]:
    """The items that refer to instances, at whatever depth below the sequence `keyword`."""
    for item in header.items(dataset, keyword):
        if "ReferencedSOPInstanceUID" in item:
            yield item
        for deeper in ("ReferencedSeriesSequence", "ReferencedInstanceSequence", "ReferencedImageSequence", "ReferencedSOPSequence"):
            yield from _references(item, deeper)


def _of_segmentation(dataset: Dataset) -> dict[str, Any]:
    segments = list(header.items(dataset, "SegmentSequence"))
    labels = {header.whole(segment, "SegmentNumber"): _text(segment, "SegmentLabel") for segment in segments}
    planes = dataset.pixel_array.reshape(-1, int(dataset.Rows), int(dataset.Columns)).astype(bool)
    shares = {}
    for frame, plane in zip(header.items(dataset, "PerFrameFunctionalGroupsSequence"), planes, strict=True):
        (named,) = header.items(frame, "SegmentIdentificationSequence")
        shares[labels[header.whole(named, "ReferencedSegmentNumber")]] = float(plane.mean())
    algorithm = next((item for segment in segments for item in header.items(segment, "SegmentationAlgorithmIdentificationSequence")), None)
    text = "" if algorithm is None else _text(algorithm, "AlgorithmParameters")
    return {"shares": shares, "parameters": json.loads(text) if text else {}}


def _of_report(dataset: Dataset) -> dict[str, Any]:
    """Its claim, parameters and measurements; those of each group once."""
    lines: list[str] = []
    measurements: list[tuple[str, float, str]] = []
    for group in _content(dataset):
        if _code(group, "ConceptNameCodeSequence")[:2] != _MEASUREMENT_GROUP:
            continue
        items = {_code(item, "ConceptNameCodeSequence")[:2]: item for item in header.items(group, "ContentSequence")}
        about = str(items[_TRACKING].TextValue) if _FINDING in items else ""
        for item in _content(group):
            concept = _code(item, "ConceptNameCodeSequence")
            if concept[:2] == _ALGORITHM_PARAMETERS and item.TextValue not in lines:
                lines.append(str(item.TextValue))
            elif item.ValueType == "NUM":
                for value in header.items(item, "MeasuredValueSequence"):
                    unit = _code(value, "MeasurementUnitsCodeSequence")[0]
                    named = concept[2] if concept[2].lower().startswith(about.lower()) else f"{about}: {concept[2]}"
                    measurements.append((named, float(value.NumericValue), unit.strip("{}")))
    told = [line.partition(": ") for line in lines if line.startswith(_TOLD)]
    parameters = dict(line.split(" = ", 1) for line in lines if " = " in line and not line.startswith(_TOLD))
    return {
        "claim": " ".join(text for name, _, text in told if name != "note"),
        "parameters": parameters,
        "measurements": tuple(measurements),
    }


def _content(dataset: Dataset) -> Iterator[Dataset]:
    for item in header.items(dataset, "ContentSequence"):
        yield item
        yield from _content(item)


def _code(dataset: Dataset, keyword: str) -> tuple[str, str, str]:
    item = next(iter(header.items(dataset, keyword)), Dataset())
    return _text(item, "CodeValue"), _text(item, "CodingSchemeDesignator"), _text(item, "CodeMeaning")


def _of_radius_map(dataset: Dataset) -> dict[str, Any]:
    radii = np.asarray(dataset.pixel_array)
    return {"radii": (float(radii.min()), float(np.median(radii)), float(radii.max())), "shares": {"radius 0": float((radii == 0).mean())}}


def _of_presentation_state(dataset: Dataset) -> dict[str, Any]:
    """Its claim, for which a presentation state has no comments: what the contribution says."""
    return {"claim": next((_text(item, "ContributionDescription") for item in header.items(dataset, "ContributingEquipmentSequence")), "")}
