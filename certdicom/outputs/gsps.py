"""The result as a Grayscale Softcopy Presentation State (PS3.3 A.33.1), for archives that know no SEG: drawn over the film itself.

Outlines and hatching run along the film's own pixels and the film is shown as by its own header: `certdicom.outputs.polylines` and
`certdicom.imaging.softcopy`. Each structure and abstention has a layer of its own, in its colour and in a gray, since some viewers take
neither colour from the other.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import GraphicAnnotation, GraphicLayer, GraphicObject, GrayscaleSoftcopyPresentationState, TextObject
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.certification.certificate import Certificate
from certdicom.errors import UsageError
from certdicom.imaging.image import Radiograph, SourceImage
from certdicom.imaging.softcopy import gray_pipeline, pixel_aspect_ratio
from certdicom.outputs import statements
from certdicom.outputs.codes import ABSTAIN_SEGMENT
from certdicom.outputs.derived import (
    LONG_STRING,
    MANUFACTURER,
    SHORT_TEXT,
    clip,
    contribution,
    device_serial_number,
    inherit,
    leave_laterality_open,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.fit import require_fit
from certdicom.outputs.polylines import Polyline, hatching, outlines, pieces
from certdicom.outputs.segments import AbstainSegments, Segment, segments_of
from certdicom.outputs.source import describe_source
from certdicom.outputs.uids import ResultIdentity
from certdicom.version import VERSION

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

SERIES_DESCRIPTION: Final = "Certified outlines, research use only"
SERIES_NUMBER: Final = 9005

_MOST_POINTS: Final = 8191
"""Of a polyline: 65,528 bytes, what an element of VR FL can hold in Explicit VR (PS3.5 7.1.2)."""

_HATCH_SHARE: Final = 1 / 120
_LEAST_PERIOD: Final = 4
"""The period of hatching is this share of the film's longer side, and never less pixels than this."""

_LINE_LENGTH: Final = 80
_CODE_STRING: Final = 16
_WHITE: Final = 0xFFFF

_TEXT_BOX: Final = (0.01, 0.93, 0.99, 0.995)
"""Of the certificate, as shares of the displayed area: left, top, right, bottom."""


def encode(result: Result) -> bytes:
    """The presentation state as a DICOM file."""
    certificate = result.certificate
    state = build_presentation_state(
        result.image, result.decisions, certificate, draw_identity=certificate.draw_identity, abstain=result.abstain
    )
    return encoded(state)


def build_presentation_state(
    image: SourceImage,
    decisions: NDArray[np.uint8],
    certificate: Certificate,
    *,
    draw_identity: str,
    abstain: AbstainSegments = "union",
) -> GrayscaleSoftcopyPresentationState:
    """Build the presentation state of one film.

    `decisions` (structures, rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN, of the film's size; `draw_identity`: fingerprint of the noise
    seed; `abstain`: "per-structure" puts one layer of hatching per structure beside that of all, as the SEG has its segments. UsageError for a
    colour photograph, to which no grayscale state can refer, and for decisions that do not fit.
    """
    if not isinstance(image, Radiograph):
        raise UsageError("a grayscale presentation state cannot refer to a colour photograph; --sc makes a picture of it")
    require_fit(decisions, certificate, rows=image.rows, columns=image.columns)
    source = describe_source(image.dataset, geometry="none")
    source.image.SamplesPerPixel = 1  # highdicom asks for it
    identity = ResultIdentity.of(
        certificate,
        source_sop_instance_uid=source.image.SOPInstanceUID,
        file_sha256=image.file_sha256,
        draw_identity=draw_identity,
        abstain=abstain,
    )
    layers, annotations = _drawn(source.image, segments_of(decisions, certificate, abstain=abstain), certificate)
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[source.image],
        series_instance_uid=identity.uid("presentation series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("presentation instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="certdicom",
        software_versions=VERSION,
        device_serial_number=device_serial_number(certificate),
        content_label="CERTIFIED",
        content_description=clip("Certified outlines; what is hatched is not certified", LONG_STRING),
        content_creator_name="certdicom^",
        graphic_layers=layers,
        graphic_annotations=annotations,
        series_description=SERIES_DESCRIPTION,
        contributing_equipment=[contribution(certificate)],
    )
    claim = statements.claim(certificate, subject=statements.UNHATCHED)
    state.ContributingEquipmentSequence[0].ContributionDescription = clip(claim, SHORT_TEXT)
    state.update(gray_pipeline(image))
    state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = list(pixel_aspect_ratio(image.dataset))
    inherit(state, source, without=("PatientOrientation",))
    leave_laterality_open(state)
    return state


def _drawn(film: Dataset, segments: Sequence[Segment], certificate: Certificate) -> tuple[list[GraphicLayer], list[GraphicAnnotation]]:
    """The layers, abstention undermost and the certificate on top, and what is drawn in each."""
    period = max(_LEAST_PERIOD, round(_HATCH_SHARE * max(film.Rows, film.Columns)))
    ordered = sorted(segments, key=lambda segment: not _abstains(segment))
    names = _layer_names([segment.structure.label for segment in ordered])
    layers, annotations = [], []
    for order, (name, segment) in enumerate(zip(names, ordered, strict=True), start=1):
        label = segment.structure.label
        what = f"{label}: hatched, not certified" if _abstains(segment) else f"{label}: certified outline"
        layer = _layer(name, order, what, segment.structure.rgb)
        layers.append(layer)
        lines = [piece for line in outlines(segment.mask) for piece in pieces(line, most=_MOST_POINTS)]
        if _abstains(segment):
            lines += hatching(segment.mask, period=period)
        if lines:
            annotations.append(GraphicAnnotation([film], layer, graphic_objects=[_polyline(line) for line in lines]))
    layer = _layer("CERTIFICATE", len(layers) + 1, "What is certified, and what is not", (255, 255, 255))
    text = TextObject("\r\n".join(_wrapped(certificate)), "DISPLAY", bounding_box=_TEXT_BOX, text_justification="LEFT")
    return [*layers, layer], [*annotations, GraphicAnnotation([film], layer, text_objects=[text])]


def _abstains(segment: Segment) -> bool:
    return segment.structure.code == ABSTAIN_SEGMENT.code


def _layer(name: str, order: int, description: str, rgb: tuple[int, int, int]) -> GraphicLayer:
    layer = GraphicLayer(name, order, description=clip(description, LONG_STRING), display_color=CIELabColor.from_rgb(*rgb))
    layer.GraphicLayerRecommendedDisplayGrayscaleValue = _WHITE
    return layer


def _polyline(line: Polyline) -> GraphicObject:
    return GraphicObject("POLYLINE", line, "PIXEL")


def _layer_names(labels: Sequence[str]) -> Iterator[str]:
    """A code string of its own for each label, as much like it as can be."""
    taken = {"CERTIFICATE"}
    for number, label in enumerate(labels, start=1):
        name = re.sub("[^A-Z0-9]+", " ", label.upper()).strip()[:_CODE_STRING].strip()
        if not name or name in taken:
            name = f"LAYER {number}"
        taken.add(name)
        yield name


def _wrapped(certificate: Certificate) -> list[str]:
    return textwrap.wrap(statements.at_a_glance(certificate), _LINE_LENGTH)
