"""The result as a drawing for viewers that fill every segment of a SEG: structures as bands, abstention as a sparse hatch.

It leaves the film to be seen, and measures nothing: a SEG in a series of its own beside the certified one, never instead of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np
from highdicom.seg import Segmentation

from certdicom.outputs import series, statements
from certdicom.outputs.dicom_file import encoded
from certdicom.outputs.overlay import Mask, inner_border
from certdicom.outputs.seg import Form, assemble
from certdicom.outputs.segments import Segment, segments_of
from certdicom.outputs.source import describe_source
from certdicom.outputs.uids import ResultIdentity

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

_NOT_FOR_MEASURING: Final = "drawing, not for measuring"
_SIDE: Final = 1024
"""The longer side of a film, in pixels, whose bands and strokes have the widths below; on larger films they grow with it."""
_BAND, _PERIOD, _STROKE = 6, 24, 6


def encode(result: Result) -> bytes:
    """The drawing as a DICOM file."""
    return encoded(draw_segmentation(result))


def draw_segmentation(result: Result) -> Segmentation:
    """The SEG of what is drawn, with the segments of the certified one. ImageRefusedError for a film that a SEG cannot refer to."""
    image, certificate = result.image, result.certificate
    source = describe_source(image.dataset, geometry=result.geometry)
    identity = ResultIdentity.of(
        certificate,
        source_sop_instance_uid=source.image.SOPInstanceUID,
        file_sha256=image.file_sha256,
        draw_identity=certificate.draw_identity,
        geometry=result.geometry,
        abstain=result.abstain,
    )
    segments = segments_of(result.decisions, certificate, abstain=result.abstain)
    form = Form(
        role="drawing",
        series=series.DRAWING,
        label="DRAWING",
        description=f"Borders and hatching: {_NOT_FOR_MEASURING}",
        comments=f"A {_NOT_FOR_MEASURING}: structures' borders as bands, abstention as hatching. "
        f"What is certified is in the certified segmentation. {statements.STABILITY} {statements.RESEARCH_USE}",
    )
    drawn = drawn_segments(segments, structures=len(certificate.structures))
    return assemble(image.dataset, source, drawn, certificate, identity=identity, form=form)


def drawn_segments(segments: Sequence[Segment], *, structures: int) -> list[Segment]:
    """The first `structures` segments as bands along the inside of their borders, the others hatched."""
    return [
        replace(
            segment,
            structure=replace(segment.structure, label=f"{segment.structure.label} ({_NOT_FOR_MEASURING})"),
            mask=band(segment.mask) if number < structures else hatch(segment.mask),
            description=f"A {_NOT_FOR_MEASURING}. {segment.description}",
        )
        for number, segment in enumerate(segments)
    ]


def band(mask: Mask) -> Mask:
    """The inner border of `mask` (rows, columns): six pixels wide, on films over 1024 more."""
    return inner_border(mask, _scaled(_BAND, mask))


def hatch(mask: Mask) -> Mask:
    """Diagonal strokes within `mask` (rows, columns): six pixels wide in every 24, on films over 1024 more."""
    row, column = np.ogrid[: mask.shape[0], : mask.shape[1]]
    return np.asarray(mask & ((row + column) % _scaled(_PERIOD, mask) < _scaled(_STROKE, mask)))


def _scaled(pixels: int, mask: Mask) -> int:
    return max(pixels, round(pixels * max(mask.shape) / _SIDE))
