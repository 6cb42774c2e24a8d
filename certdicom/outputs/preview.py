"""One picture that a person reads at a glance: the film, what is certified on it, and what the certificate says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from certdicom.certification.certificate import ABSTAIN, PRESENT, Certificate
from certdicom.certification.unions import fallback
from certdicom.outputs import palette, statements
from certdicom.outputs.fit import require_fit
from certdicom.outputs.labels import point_at, write_names
from certdicom.outputs.overlay import Mask, canvas_of, draw_hatch, draw_outlines, resize_nearest
from certdicom.outputs.panel import FAINT, Pen, beside, swatch, write_panel
from certdicom.outputs.picture_file import jpeg, png

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

LONG_SIDE = 1400


def encode(result: Result) -> bytes:
    """The picture as PNG."""
    return png(picture_of(result), description=_claim(result))


def _claim(result: Result) -> str:
    return statements.claim(result.certificate, subject=statements.UNHATCHED)


def encode_jpeg(result: Result) -> bytes:
    """The picture as JPEG."""
    return jpeg(picture_of(result), description=_claim(result))


def picture_of(result: Result) -> Image.Image:
    """The picture of a result, drawn once: the capture shows it too."""
    return result.once(_drawn)


def _drawn(result: Result) -> Image.Image:
    return render_preview(result.image.display(), result.decisions, result.certificate, unions=result.unions)


def render_preview(
    display: NDArray[np.float32], decisions: NDArray[np.uint8], certificate: Certificate, *, unions: NDArray[np.uint8] | None = None
) -> Image.Image:
    """Render an RGB picture of about 1400 pixels on its long side, with a panel of words to the right.

    `display` (rows, columns) gray or (rows, columns, 3) colour: the image in [0, 1], 0 is black; `decisions` (structures, rows,
    columns) uint8 of ABSENT, PRESENT, ABSTAIN, of the image's size; `unions` (unions, rows, columns) likewise. Certified structures
    are outlined in their colours; where at least one structure's decision is not certified the image is hatched, and outlined where a union
    is certified present all the same. Raises UsageError when the two do not fit together.
    """
    require_fit(decisions, certificate, rows=display.shape[0], columns=display.shape[1])
    canvas = canvas_of(display, long_side=LONG_SIDE)
    rows, columns = canvas.shape[:2]
    scaled = resize_nearest(decisions, rows=rows, columns=columns)
    hatched = np.asarray((scaled == ABSTAIN).any(axis=0))
    draw_hatch(canvas, hatched)
    fallbacks = _fallbacks(decisions, certificate, unions)
    regions = [resize_nearest(row.mask[np.newaxis].astype(np.uint8), rows=rows, columns=columns)[0] == 1 for row in fallbacks]
    outlined = [*(scaled == PRESENT), *regions]
    colours = [*(structure.rgb for structure in certificate.structures), *(row.rgb for row in fallbacks)]
    draw_outlines(canvas, outlined, colours)
    picture = Image.fromarray(canvas)
    write_names(picture, outlined, [*(structure.label for structure in certificate.structures), *(row.label for row in fallbacks)], colours)
    point_at(picture, hatched, "abstain", palette.ABSTAIN, avoid=np.logical_or.reduce([hatched, *outlined]))
    legend = [*_legend(certificate.analysed(decisions), certificate), *(row.legend() for row in fallbacks)]
    return beside(picture, write_panel(lambda pen: _write(pen, legend, certificate)))


@dataclass(frozen=True)
class _Row:
    """One entry of the legend; `rgb` None is the hatching."""

    label: str
    rgb: palette.RGB | None
    figures: str


def _legend(decisions: NDArray[np.uint8], certificate: Certificate) -> Iterator[_Row]:
    for structure, plane in zip(certificate.structures, decisions, strict=True):
        present = plane == PRESENT
        certified = f"certified {percent(present)} of the {whole(certificate)}" if present.any() else "certified nowhere"
        figures = f"{certified}\nabstained {percent(plane == ABSTAIN)}"
        yield _Row(structure.label, structure.rgb, figures)
    share = percent((decisions == ABSTAIN).any(axis=0))
    yield _Row("Abstain (hatched)", None, f"{share} of the {whole(certificate)}: not certified for at least one structure")


def whole(certificate: Certificate) -> str:
    """What shares are shares of."""
    return "analysed part" if certificate.crop else certificate.medium


@dataclass(frozen=True, eq=False)
class _Fallback:
    """Where only a union is certified present: `mask` (rows, columns) bool, of the image's size."""

    label: str
    rgb: palette.RGB
    mask: Mask
    certificate: Certificate

    def legend(self) -> _Row:
        share = percent(self.certificate.analysed(self.mask))
        return _Row(self.label, self.rgb, f"certified on {share} of the {whole(self.certificate)} where no single one of them is")


def _fallbacks(decisions: NDArray[np.uint8], certificate: Certificate, unions: NDArray[np.uint8] | None) -> list[_Fallback]:
    if certificate.unions is None or unions is None:
        return []
    return [
        _Fallback(
            label,
            palette.UNION_RGB[number % len(palette.UNION_RGB)],
            fallback(decisions, plane, members=members),
            certificate,
        )
        for number, (label, members, plane) in enumerate(zip(certificate.union_labels, certificate.unions.members, unions, strict=True))
    ]


def percent(mask: Mask) -> str:
    """The share of a mask to a tenth of a per cent; "0.0 %" and "100.0 %" mean none and all."""
    share = 100 * float(mask.mean())
    if 0 < share < 0.05:
        return "under 0.1 %"
    return "over 99.9 %" if 99.95 <= share < 100 else f"{share:.1f} %"


def _write(pen: Pen, legend: Sequence[_Row], certificate: Certificate) -> None:
    """What it is, what the two kinds of regions mean in plain words, the legend, then the exact claim and its parameters."""
    pen.text("Certified segmentation", size=30)
    pen.skip(14)
    for sentence in statements.plain(certificate):
        pen.text(sentence, size=21)
        pen.skip(8)
    pen.skip(14)
    for row in legend:
        pen.row(_swatch(row.rgb), label=row.label, figures=row.figures)
    pen.skip(4)
    pen.text(statements.RESEARCH_USE, size=21, colour=palette.ABSTAIN)
    pen.skip(16)
    pen.text(statements.guarantee(certificate, subject=statements.UNHATCHED), size=17, colour=FAINT)
    pen.skip(8)
    pen.text(statements.settings(certificate), size=17, colour=FAINT)
    pen.notes(certificate.notes)


def _swatch(rgb: palette.RGB | None) -> NDArray[np.uint8]:
    if rgb is None:
        return swatch(draw_hatch)
    return swatch(lambda canvas, mask: draw_outlines(canvas, [mask], [rgb]))
