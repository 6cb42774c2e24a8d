"""A column of words and swatches beside a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from certdicom.outputs.palette import RGB

PANEL_WIDTH = 460
MARGIN = 28
SWATCH = 44

PAPER: RGB = (24, 24, 27)
INK: RGB = (244, 244, 245)
FAINT: RGB = (190, 190, 198)

_NOTES_SHOWN = 4


class Pen:
    """Writes down a column; `y` is where the next line starts, in pixels."""

    def __init__(self, panel: Image.Image) -> None:
        self.panel = panel
        self.draw = ImageDraw.Draw(panel)
        self.y = MARGIN

    def skip(self, pixels: int) -> None:
        self.y += pixels

    def row(self, swatch: NDArray[np.uint8], *, label: str, figures: str) -> None:
        """One entry of a legend: a swatch (SWATCH, SWATCH, 3), a name, and what belongs to it in smaller letters."""
        top = self.y
        self.panel.paste(Image.fromarray(swatch), (MARGIN, top + 4))
        self.text(label, size=24, indent=SWATCH + 18)
        self.text(figures, size=19, indent=SWATCH + 18, colour=FAINT)
        self.y = max(self.y, top + SWATCH + 8) + 14

    def text(self, text: str, *, size: int, indent: int = 0, colour: RGB = INK) -> None:
        font = ImageFont.load_default(size=size)
        for paragraph in text.split("\n"):
            for line in wrap(paragraph, font, PANEL_WIDTH - 2 * MARGIN - indent):
                self.draw.text((MARGIN + indent, self.y), line, font=font, fill=colour)
                self.y += round(1.32 * size)

    def notes(self, notes: Sequence[str]) -> None:
        """The first few notes of a certificate."""
        shown = notes[:_NOTES_SHOWN]
        more = len(notes) - len(shown)
        for note in (*shown, f"{more} more notes are in the report") if more else shown:
            self.skip(6)
            self.text(f"Note: {note}.", size=17, colour=FAINT)


def write_panel(write: Callable[[Pen], None]) -> Image.Image:
    """What `write` writes, on a canvas that is as high as it needs."""
    measured = Pen(Image.new("RGB", (PANEL_WIDTH, 1)))
    write(measured)
    panel = Image.new("RGB", (PANEL_WIDTH, measured.y + MARGIN), PAPER)
    write(Pen(panel))
    return panel


def swatch(paint: Callable[[NDArray[np.uint8], NDArray[np.bool_]], None]) -> NDArray[np.uint8]:
    """What `paint` draws into (canvas, mask), on a film that is black on the left and white on the right."""
    canvas = np.repeat(np.linspace(0, 255, SWATCH).astype(np.uint8)[np.newaxis, :, np.newaxis], SWATCH, axis=0).repeat(3, axis=2)
    inside = np.zeros((SWATCH, SWATCH), bool)
    inside[3:-3, 3:-3] = True
    paint(canvas, inside)
    return canvas


def beside(picture: Image.Image, panel: Image.Image) -> Image.Image:
    """The picture with the panel at its right, both from the top."""
    page = Image.new("RGB", (picture.width + panel.width, max(picture.height, panel.height)), PAPER)
    page.paste(picture, (0, (page.height - picture.height) // 2))
    page.paste(panel, (picture.width, 0))
    return page


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
