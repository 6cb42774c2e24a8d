"""Where a result abstains and why, drawn: the image once for each structure, its reasons in three patterns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from certdicom.certification.certificate import PRESENT, Certificate
from certdicom.certification.explanation import TOO_FEW_DRAWS, UNSETTLED, UNSTABLE
from certdicom.outputs import palette, statements
from certdicom.outputs.explanation import StructureExplanation
from certdicom.outputs.fit import require_fit
from certdicom.outputs.overlay import (
    Canvas,
    Mask,
    canvas_of,
    draw_checks,
    draw_hatch,
    draw_outlines,
    draw_tint,
    resize_nearest,
)
from certdicom.outputs.panel import FAINT, INK, PAPER, Pen, beside, swatch, write_panel
from certdicom.outputs.picture_file import png

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

LONG_SIDE = 1000
_TITLE = 52
_GAP = 12

MEANINGS = {
    TOO_FEW_DRAWS: ("Too few draws", "agrees often enough: more draws would be expected to certify it"),
    UNSETTLED: ("Too close to tau", "more draws would tell which way it goes"),
    UNSTABLE: ("Unstable", "the model changes its mind under noise; no number of draws certifies it"),
}
"""What people read of each reason."""


def encode(result: Result) -> bytes:
    """The picture as PNG."""
    explanation = result.explanation
    return png(
        render_explanation(result.image.display(), result.decisions, explanation.reasons, result.certificate, explanation.structures)
    )


def render_explanation(
    display: NDArray[np.float32],
    decisions: NDArray[np.uint8],
    reasons: NDArray[np.uint8],
    certificate: Certificate,
    summary: Sequence[StructureExplanation],
) -> Image.Image:
    """The image once for each structure, with its reasons, and a panel of words.

    `display` (rows, columns) gray or (rows, columns, 3) colour: the image in [0, 1]; `decisions`, `reasons` (structures, rows,
    columns) uint8, of the image's size. Raises UsageError when they do not fit together.
    """
    for maps in (decisions, reasons):
        require_fit(maps, certificate, rows=display.shape[0], columns=display.shape[1])
    film = canvas_of(display, long_side=LONG_SIDE)
    rows, columns = film.shape[:2]
    picture = Image.new("RGB", (len(summary) * (columns + _GAP), rows + _TITLE), PAPER)
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(size=26)
    scaled = resize_nearest(decisions, rows=rows, columns=columns)
    reason = resize_nearest(reasons, rows=rows, columns=columns)
    for number, structure in enumerate(certificate.structures):
        canvas = film.copy()
        for value in MEANINGS:
            draw_reason(canvas, reason[number] == value, value)
        draw_outlines(canvas, [scaled[number] == PRESENT], [INK])  # white: structures' own colours mean reasons here
        left = number * (columns + _GAP)
        picture.paste(Image.fromarray(canvas), (left, _TITLE))
        draw.text((left + columns // 2, _TITLE // 2), structure.label[:40], font=font, fill=INK, anchor="mm")
    return beside(picture, write_panel(lambda pen: _write(pen, certificate, summary)))


def draw_reason(canvas: Canvas, mask: Mask, reason: int) -> None:
    """Draw a region in the colour and the pattern of its reason, told apart by either."""
    if reason == TOO_FEW_DRAWS:
        draw_tint(canvas, mask, palette.SKY_BLUE)
    elif reason == UNSETTLED:
        draw_hatch(canvas, mask)
    else:
        draw_checks(canvas, mask, palette.VERMILLION)


def _write(pen: Pen, certificate: Certificate, summary: Sequence[StructureExplanation]) -> None:
    pen.text("Why it abstains", size=30)
    pen.skip(16)
    for value, (name, meaning) in MEANINGS.items():
        pen.row(swatch(lambda canvas, mask, value=value: draw_reason(canvas, mask, value)), label=name, figures=meaning)  # type: ignore[misc]
    pen.skip(8)
    for entry in summary:
        pen.text(entry.label, size=22)
        pen.text(_figures(entry), size=18, colour=FAINT)
        pen.skip(8)
    pen.skip(8)
    pen.text(statements.EXPLANATION, size=17, colour=FAINT)
    pen.skip(8)
    pen.text(statements.answer(certificate)["text"], size=17, colour=FAINT)
    pen.skip(8)
    pen.text(f"{statements.STABILITY} {statements.RESEARCH_USE}", size=19, colour=palette.ABSTAIN)
    pen.skip(8)
    parameters = certificate.parameters
    pen.text(
        f"sigma {parameters.sigma:g}, tau {parameters.tau:g}, n {statements.draws(certificate)}, alpha {parameters.alpha:g}.",
        size=17,
        colour=FAINT,
    )


def _figures(entry: StructureExplanation) -> str:
    total = entry.too_few_draws_px + entry.unsettled_px + entry.unstable_px
    if not total:
        return "abstains nowhere"
    shares = ", ".join(
        f"{name} {count / total:.0%}"
        for name, count in (
            ("too few draws", entry.too_few_draws_px),
            ("too close", entry.unsettled_px),
            ("unstable", entry.unstable_px),
        )
    )
    ahead = f"\nn = {entry.draws_for_half:,} for half of what more draws would certify" if entry.draws_for_half else ""
    return f"of its abstained pixels: {shares}{ahead}"
