"""The result as a Grayscale Softcopy Presentation State (PS3.3 A.33.1), for archives that know no SEG: drawn over the film itself.

Outlines and hatching run along the film's own pixels and the film is shown as by its own header: `certdicom.outputs.polylines` and
`certdicom.imaging.softcopy`. Each structure and abstention has a layer of its own, in its colour and in a gray, since some viewers take
neither colour from the other.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom.color import CIELabColor
from highdicom.pr import GraphicAnnotation, GraphicLayer, GraphicObject, GrayscaleSoftcopyPresentationState, TextObject
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from scipy import ndimage

from certdicom.certification.certificate import Certificate
from certdicom.errors import UsageError
from certdicom.imaging.image import Radiograph, SourceImage
from certdicom.imaging.softcopy import gray_pipeline, pixel_aspect_ratio
from certdicom.outputs import series, statements
from certdicom.outputs.codes import ABSTAIN_SEGMENT
from certdicom.outputs.derived import (
    LONG_STRING,
    SHORT_TEXT,
    clip,
    inherit,
    leave_laterality_open,
    made_by,
)
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.fit import require_fit
from certdicom.outputs.labels import inner_places
from certdicom.outputs.palette import RGB
from certdicom.outputs.polylines import Polyline, hatching, outlines, pieces
from certdicom.outputs.segments import AbstainSegments, Segment, segments_of
from certdicom.outputs.source import describe_source
from certdicom.outputs.uids import ResultIdentity

Box = tuple[float, float, float, float]
"""Left, top, right, bottom."""

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

_MOST_POINTS: Final = 8191
"""Of a polyline: 65,528 bytes, what an element of VR FL can hold in Explicit VR (PS3.5 7.1.2)."""

_CODE_STRING: Final = 16
_LINE_LENGTH: Final = 80
_LINE_HEIGHT: Final = 0.018
"""Of the certificate's text, as a share of the displayed area; viewers have fonts of their own."""

_WHITE: Final = (255, 255, 255)
_BLACK: Final = (0, 0, 0)


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
    seed; `abstain`: "per-structure" puts one layer of hatching per structure beside that of all, as the SEG has its segments. UsageError
    for a colour photograph, to which no grayscale state can refer, and for decisions that do not fit.
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
    sheet = _Sheet(source.image)
    _draw(sheet, segments_of(decisions, certificate, abstain=abstain), image.display(), certificate)
    state = GrayscaleSoftcopyPresentationState(
        referenced_images=[source.image],
        series_instance_uid=identity.uid("presentation series"),
        **made_by(series.PRESENTATION, certificate),
        sop_instance_uid=identity.uid("presentation instance"),
        content_label="CERTIFIED",
        content_description=clip("Certified outlines; what is hatched is not certified", LONG_STRING),
        content_creator_name="certdicom^",
        graphic_layers=sheet.layers,
        graphic_annotations=sheet.annotations,
    )
    claim = statements.claim(certificate, subject=statements.UNHATCHED)
    state.ContributingEquipmentSequence[0].ContributionDescription = clip(claim, SHORT_TEXT)
    state.update(gray_pipeline(image))
    state.DisplayedAreaSelectionSequence[0].PresentationPixelAspectRatio = list(pixel_aspect_ratio(image.dataset))
    inherit(state, source, without=("PatientOrientation",))
    leave_laterality_open(state)
    return state


class _Sheet:
    """The layers of a film, the first undermost, and what is drawn in them."""

    def __init__(self, film: Dataset) -> None:
        self.film = film
        self.layers: list[GraphicLayer] = []
        self.annotations: list[GraphicAnnotation] = []

    def add(
        self,
        name: str,
        description: str,
        *,
        rgb: RGB,
        gray: RGB = _WHITE,
        lines: Iterable[Polyline] = (),
        texts: Sequence[TextObject] = (),
    ) -> None:
        """A layer on top of the others; `name` as a code string of its own, `rgb` and, for viewers that know no colour, `gray`."""
        order = len(self.layers) + 1
        layer = GraphicLayer(
            self._code(name, order), order, description=clip(description, LONG_STRING), display_color=CIELabColor.from_rgb(*rgb)
        )
        layer.GraphicLayerRecommendedDisplayGrayscaleValue = gray[0] * 0x101
        self.layers.append(layer)
        graphics = [GraphicObject("POLYLINE", piece, "PIXEL") for line in lines for piece in pieces(line, most=_MOST_POINTS)]
        if graphics or texts:
            self.annotations.append(GraphicAnnotation([self.film], layer, graphic_objects=graphics or None, text_objects=texts or None))

    def _code(self, name: str, order: int) -> str:
        code = re.sub("[^A-Z0-9]+", " ", name.upper()).strip()[:_CODE_STRING].strip()
        taken = {layer.GraphicLayer for layer in self.layers}
        return f"LAYER {order}" if not code or code in taken else code


def _draw(sheet: _Sheet, segments: Sequence[Segment], display: NDArray[np.float32], certificate: Certificate) -> None:
    """Black beneath and between white lines, so that they are seen on black lung and on white bone."""
    period = _period(certificate, rows=display.shape[0], columns=display.shape[1])
    width = max(1, round(max(display.shape) / 1000))
    structures = [segment for segment in segments if segment.structure.code != ABSTAIN_SEGMENT.code]
    silent = [segment for segment in segments if segment.structure.code == ABSTAIN_SEGMENT.code]
    casing = [
        *(line for segment in structures for line in outlines(ndimage.binary_dilation(segment.mask, np.ones((3, 3)), width))),
        *hatching(silent[-1].mask, period=period, phase=period // 2),
    ]
    sheet.add("CASING", "Black between the lines", rgb=_BLACK, gray=_BLACK, lines=casing)
    for segment in silent:
        label = segment.structure.label
        sheet.add(label, f"{label}: hatched, not certified", rgb=segment.structure.rgb, lines=hatching(segment.mask, period=period))
    for segment in structures:
        label, rgb = segment.structure.label, segment.structure.rgb
        sheet.add(label, f"{label}: certified outline", rgb=rgb, lines=outlines(segment.mask))
    for segment in structures:
        label, rgb = segment.structure.label, segment.structure.rgb
        if boxes := _name_boxes(label, segment.mask):
            names = [TextObject(label, "PIXEL", bounding_box=box, text_justification="CENTER") for box in boxes]
            ink = _ink(np.concatenate([_under(box, display, of_pixels=True) for box in boxes]))
            sheet.add(f"NAME {label}", f"{label}: its name", rgb=rgb, gray=ink, texts=names)
    lines = textwrap.wrap(statements.at_a_glance(certificate), _LINE_LENGTH)
    box, ink = _place_for(len(lines), display)
    text = TextObject("\r\n".join(lines), "DISPLAY", bounding_box=box, text_justification="LEFT")
    sheet.add("CERTIFICATE", "What is certified, and what is not", rgb=ink, gray=ink, texts=[text])


def _period(certificate: Certificate, *, rows: int, columns: int) -> int:
    """Of the hatching, in pixels of the film: a 128th of its longer side, less where a cell of the grid would slip through; at least 4."""
    crop = certificate.crop
    height, width = (rows, columns) if crop is None else (crop.rows, crop.columns)
    cell = height // certificate.shape[0] + width // certificate.shape[1] - 1
    return max(4, min(round(max(rows, columns) / 128), cell))


def _name_boxes(name: str, mask: NDArray[np.bool_]) -> list[Box]:
    """Where a structure's name stands, in pixels: in each of its large parts, in a box that it fills, as viewers justify it differently."""
    rows, columns = mask.shape
    side = max(rows, columns)
    half_width, half_height = len(name) * side / 250, side / 100
    return [
        (max(0, column - half_width), max(0, row - half_height), min(columns, column + half_width), min(rows, row + half_height))
        for row, column in inner_places(mask)
    ]


def _place_for(lines: int, display: NDArray[np.float32]) -> tuple[Box, RGB]:
    """Where on the film, in shares of it, so many lines are read best, and in which gray: at its foot or its head."""
    height = lines * _LINE_HEIGHT
    boxes = [(0.04, 0.99 - height, 0.96, 0.99), (0.04, 0.01, 0.96, 0.01 + height)]
    gray = [_under(box, display) for box in boxes]
    best = max(range(len(boxes)), key=lambda number: _contrast(gray[number], _ink(gray[number])))
    return boxes[best], _ink(gray[best])


def _under(box: Box, display: NDArray[np.float32], *, of_pixels: bool = False) -> NDArray[np.float32]:
    """What is shown under a box."""
    rows, columns = (1, 1) if of_pixels else display.shape
    left, top, right, bottom = box
    return display[int(top * rows) : int(bottom * rows) + 1, int(left * columns) : int(right * columns) + 1].ravel()


def _ink(gray: NDArray[np.float32]) -> RGB:
    """Black or white, by what is read better over these gray values."""
    return max(_WHITE, _BLACK, key=lambda ink: _contrast(gray, ink))


def _contrast(gray: NDArray[np.float32], ink: RGB) -> float:
    """How far all but the worst tenth of the gray values are from that of the ink."""
    return float(np.quantile(np.abs(gray - ink[0] / 255), 0.1))
