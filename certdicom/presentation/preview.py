"""One picture that a person reads at a glance: the film, what is certified on it, and what the certificate says."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from certdicom.certification.certificate import ABSTAIN, PRESENT, Certificate
from certdicom.certification.unions import fallback
from certdicom.dicom import wording
from certdicom.errors import UsageError
from certdicom.files import write_atomically
from certdicom.presentation import palette
from certdicom.presentation.overlay import Mask, draw_hatch, draw_outlines, gray_canvas, resize_nearest

LONG_SIDE = 1400
PANEL_WIDTH = 460
MARGIN = 28
SWATCH = 44

_PAPER = (24, 24, 27)
_INK = (244, 244, 245)
_FAINT = (190, 190, 198)
_NOTES_SHOWN = 4


def render_preview(
    display: NDArray[np.float32], decisions: NDArray[np.uint8], certificate: Certificate, *, unions: NDArray[np.uint8] | None = None
) -> Image.Image:
    """Render an RGB picture of about 1400 pixels on its long side, with a panel of words to the right.

    `display` (rows, columns): the film in [0, 1], 0 is black; `decisions` (structures, rows, columns) uint8 of ABSENT,
    PRESENT, ABSTAIN, of the film's size; `unions` (unions, rows, columns) likewise. Certified structures are outlined in their
    colours; where at least one structure's decision is not certified the film is hatched, and outlined where a union
    is certified present all the same. Raises UsageError when the two do not fit together.
    """
    wanted = (len(certificate.structures), *display.shape)
    if display.ndim != 2 or decisions.shape != wanted or not display.size:
        raise UsageError(f"decisions have the shape {decisions.shape}, not {wanted} (structures, rows, columns); resample them to the film")
    scale = LONG_SIDE / max(display.shape)
    rows, columns = (max(1, round(size * scale)) for size in display.shape)
    canvas = gray_canvas(display, rows=rows, columns=columns)
    scaled = resize_nearest(decisions, rows=rows, columns=columns)
    draw_hatch(canvas, (scaled == ABSTAIN).any(axis=0))
    fallbacks = _fallbacks(decisions, certificate, unions)
    regions = [resize_nearest(row.mask[np.newaxis].astype(np.uint8), rows=rows, columns=columns)[0] == 1 for row in fallbacks]
    draw_outlines(
        canvas,
        [*(scaled == PRESENT), *regions],
        [*(structure.rgb for structure in certificate.structures), *(row.rgb for row in fallbacks)],
    )

    panel = _panel([*_legend(decisions, certificate), *(row.legend() for row in fallbacks)], certificate)
    page = Image.new("RGB", (columns + PANEL_WIDTH, max(rows, panel.height)), _PAPER)
    page.paste(Image.fromarray(canvas), (0, (page.height - rows) // 2))
    page.paste(panel, (columns, 0))
    return page


def save_preview(picture: Image.Image, path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Write the picture as PNG, whole or not at all; see `write_atomically` for the errors."""
    return write_atomically(path, lambda stream: picture.save(stream, format="PNG"), force=force)


@dataclass(frozen=True)
class _Row:
    """One entry of the legend; `rgb` None is the hatching."""

    label: str
    rgb: palette.RGB | None
    figures: str


def _legend(decisions: NDArray[np.uint8], certificate: Certificate) -> Iterator[_Row]:
    for structure, plane in zip(certificate.structures, decisions, strict=True):
        present = plane == PRESENT
        certified = f"certified {percent(present)} of the film" if present.any() else "certified nowhere"
        figures = f"{certified}\nabstained {percent(plane == ABSTAIN)}"
        yield _Row(structure.label, structure.rgb, figures)
    share = percent((decisions == ABSTAIN).any(axis=0))
    yield _Row("Abstain (hatched)", None, f"{share} of the film: not certified for at least one structure")


@dataclass(frozen=True, eq=False)
class _Fallback:
    """Where only a union is certified present: `mask` (rows, columns) bool, of the film's size."""

    label: str
    rgb: palette.RGB
    mask: Mask

    def legend(self) -> _Row:
        return _Row(self.label, self.rgb, f"certified on {percent(self.mask)} of the film where no single one of them is")


def _fallbacks(decisions: NDArray[np.uint8], certificate: Certificate, unions: NDArray[np.uint8] | None) -> list[_Fallback]:
    if certificate.unions is None or unions is None:
        return []
    return [
        _Fallback(label, palette.UNION_RGB[number % len(palette.UNION_RGB)], fallback(decisions, plane, members=members))
        for number, (label, members, plane) in enumerate(zip(certificate.union_labels, certificate.unions.members, unions, strict=True))
    ]


def percent(mask: Mask) -> str:
    """The share of a mask to a tenth of a per cent; "0.0 %" and "100.0 %" mean none and all."""
    share = 100 * float(mask.mean())
    if 0 < share < 0.05:
        return "under 0.1 %"
    return "over 99.9 %" if 99.95 <= share < 100 else f"{share:.1f} %"


def _panel(legend: Sequence[_Row], certificate: Certificate) -> Image.Image:
    """The words, on a canvas that is as high as they need."""
    height = _Pen(Image.new("RGB", (PANEL_WIDTH, 1))).write_all(legend, certificate)
    panel = Image.new("RGB", (PANEL_WIDTH, height), _PAPER)
    _Pen(panel).write_all(legend, certificate)
    return panel


class _Pen:
    """Writes down a column; `y` is where the next line starts, in pixels."""

    def __init__(self, panel: Image.Image) -> None:
        self.panel = panel
        self.draw = ImageDraw.Draw(panel)
        self.y = MARGIN

    def write_all(self, legend: Sequence[_Row], certificate: Certificate) -> int:
        """Write the whole panel and return the height that it needs."""
        self.text("Certified segmentation", size=30)
        self.y += 22
        for row in legend:
            self.row(row)
        self.y += 10
        self.text(wording.guarantee(certificate, subject="Every unhatched pixel"), size=21)
        self.y += 12
        self.text(wording.STABILITY, size=21)
        self.y += 4
        self.text(wording.RESEARCH_USE, size=21, colour=palette.ABSTAIN)
        self.y += 22
        parameters = certificate.parameters
        self.text(
            f"sigma {parameters.sigma:g}, tau {parameters.tau:g}, n0 {parameters.n0}, n {wording.draws(certificate)}, "
            f"alpha {parameters.alpha:g}. "
            f"Bundle {certificate.bundle_name}, {certificate.bundle_sha256[:12]}.",
            size=17,
            colour=_FAINT,
        )
        notes = certificate.notes[:_NOTES_SHOWN]
        more = len(certificate.notes) - len(notes)
        for note in (*notes, f"{more} more notes are in the report") if more else notes:
            self.y += 6
            self.text(f"Note: {note}.", size=17, colour=_FAINT)
        return self.y + MARGIN

    def row(self, row: _Row) -> None:
        top = self.y
        self.panel.paste(Image.fromarray(_swatch(row.rgb)), (MARGIN, top + 4))
        self.text(row.label, size=24, indent=SWATCH + 18)
        self.text(row.figures, size=19, indent=SWATCH + 18, colour=_FAINT)
        self.y = max(self.y, top + SWATCH + 8) + 14

    def text(self, text: str, *, size: int, indent: int = 0, colour: palette.RGB = _INK) -> None:
        font = ImageFont.load_default(size=size)
        for paragraph in text.split("\n"):
            for line in wrap(paragraph, font, PANEL_WIDTH - 2 * MARGIN - indent):
                self.draw.text((MARGIN + indent, self.y), line, font=font, fill=colour)
                self.y += round(1.32 * size)


def _swatch(rgb: palette.RGB | None) -> NDArray[np.uint8]:
    """What the overlay draws, on the left half black and on the right half white film."""
    canvas = np.repeat(np.linspace(0, 255, SWATCH).astype(np.uint8)[np.newaxis, :, np.newaxis], SWATCH, axis=0).repeat(3, axis=2)
    inside = np.zeros((SWATCH, SWATCH), bool)
    inside[3:-3, 3:-3] = True
    if rgb is None:
        draw_hatch(canvas, inside)
    else:
        draw_outlines(canvas, [inside], [rgb])
    return canvas


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break `text` into lines of at most `width` pixels, at spaces, and within words that are longer than a line."""
    lines: list[str] = []
    line = ""
    for word in text.split():
        candidate = f"{line} {word}" if line else word
        if font.getlength(candidate) <= width:
            line = candidate
            continue
        if line:
            lines.append(line)
        line = word
        while font.getlength(line) > width:
            cut = next(end for end in range(len(line) - 1, 0, -1) if end == 1 or font.getlength(line[:end]) <= width)
            lines.append(line[:cut])
            line = line[cut:]
    return [*lines, line] if line else lines
