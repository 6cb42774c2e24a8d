"""The certified radius as a colour picture with a legend, in a Secondary Capture.

Viewers show the Parametric Map wrongly or not at all, and every one of them shows a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from certdicom.certification.certificate import ABSTAIN, Certificate
from certdicom.certification.rounding import rounded_down
from certdicom.errors import UsageError
from certdicom.outputs import palette, series, statements
from certdicom.outputs.fit import require_fit
from certdicom.outputs.overlay import Mask, canvas_of, draw_hatch, draw_wash, resize_nearest
from certdicom.outputs.panel import FAINT, Pen, beside, swatch, write_panel
from certdicom.outputs.preview import LONG_SIDE, percent, whole
from certdicom.outputs.radii import largest_radius, radii_on_image
from certdicom.outputs.secondary_capture import Shown, encode_capture

if TYPE_CHECKING:
    from certdicom.outputs.result import Result

SHOWN: Final = Shown(
    role="radius picture",
    kind="RADIUS",
    series=series.RADIUS_PICTURE,
    description="in gray, certified radius in colour, abstention hatched, legend",
    claim=statements.radius_claim,
)


def encode(result: Result) -> bytes:
    """The picture as a DICOM file."""
    image, certificate = result.image, result.certificate
    radii = radii_on_image(certificate, rows=image.rows, columns=image.columns)
    return encode_capture(result, render_radius(image.display(), radii, result.decisions, certificate), SHOWN)


@dataclass(frozen=True, eq=False)
class Band:
    """Radii from `lower` on, and below `upper` unless it is the last: `colour`, and where they are, `mask`."""

    lower: float
    upper: float
    colour: palette.RGB
    mask: Mask


def render_radius(
    display: NDArray[np.float32], radii: NDArray[np.float32], decisions: NDArray[np.uint8], certificate: Certificate
) -> Image.Image:
    """Render an RGB picture of about 1400 pixels on its long side, with a panel of words to the right.

    `display` (rows, columns) gray or (rows, columns, 3) colour: the image in [0, 1], shown in gray; `radii` (rows, columns) float32
    in units of the grid; `decisions` (structures, rows, columns) uint8 of ABSENT, PRESENT, ABSTAIN. Raises UsageError when they do not
    fit together.
    """
    require_fit(decisions, certificate, rows=display.shape[0], columns=display.shape[1])
    if radii.shape != display.shape[:2]:
        raise UsageError(f"radii must be {display.shape[:2]} (rows, columns), not {radii.shape}")
    canvas = canvas_of(display if display.ndim == 2 else display.mean(axis=2, dtype=np.float32), long_side=LONG_SIDE)
    rows, columns = canvas.shape[:2]
    hatched = (decisions == ABSTAIN).any(axis=0)
    bands = bands_of(radii, ~hatched, largest_radius(certificate))
    for band in bands:
        draw_wash(canvas, _scaled(band.mask, rows=rows, columns=columns), band.colour)
    draw_hatch(canvas, _scaled(hatched, rows=rows, columns=columns))
    return beside(Image.fromarray(canvas), write_panel(lambda pen: _write(pen, bands, hatched, certificate)))


def bands_of(radii: NDArray[np.float32], shown: Mask, top: float) -> list[Band]:
    """Bands of equal width from the smallest radius that is `shown` to `top`, the largest first, without empty ones; 0 is in none."""
    shown = shown & (radii > 0)
    if not shown.any():
        return []
    edges = np.linspace(float(radii[shown].min()), top, len(palette.RADIUS_RGB) + 1)
    number = np.clip(np.searchsorted(edges, radii, side="right") - 1, 0, len(palette.RADIUS_RGB) - 1)
    bands = [Band(float(edges[i]), float(edges[i + 1]), colour, shown & (number == i)) for i, colour in enumerate(palette.RADIUS_RGB)]
    return [band for band in reversed(bands) if band.mask.any()]


def _scaled(mask: Mask, *, rows: int, columns: int) -> Mask:
    return np.asarray(resize_nearest(mask[np.newaxis].view(np.uint8), rows=rows, columns=columns)[0] == 1)


def _write(pen: Pen, bands: Sequence[Band], hatched: Mask, certificate: Certificate) -> None:
    pen.text("Certified radius", size=30)
    pen.skip(14)
    pen.text(
        f"How far the {certificate.medium} may change before the model's answer here could turn into its opposite: no change up to the "
        f"radius does it, with {statements.confidence(certificate)} confidence for all pixels together.",
        size=21,
    )
    pen.skip(8)
    pen.text(f"{statements.STABILITY} What is stable can be wrong.", size=21)
    pen.skip(20)
    for band in bands:
        pen.row(
            swatch(lambda canvas, mask, colour=band.colour: draw_wash(canvas, mask, colour)),  # type: ignore[misc]
            label=_range(band, native=certificate.native_scale, unit=certificate.native_unit),
            figures=f"on the grid {rounded_down(band.lower, 3)} to {rounded_down(band.upper, 3)}\n{_share(band.mask, certificate)}",
        )
    pen.row(swatch(draw_hatch), label="Abstain (hatched)", figures=f"{_share(hatched, certificate)}: no answer for some structure")
    pen.skip(4)
    pen.text(statements.RESEARCH_USE, size=21, colour=palette.ABSTAIN)
    pen.skip(16)
    pen.text(
        f"The radius is the L2 norm of the change over all pixels, the smallest over the structures. One unit of the grid is "
        f"{statements.grouped(rounded_down(certificate.native_scale))} {certificate.native_unit}. It holds for images "
        f"{statements.terms(certificate)}.",
        size=17,
        colour=FAINT,
    )
    pen.skip(8)
    pen.text(statements.settings(certificate), size=17, colour=FAINT)
    pen.notes(certificate.notes)


def _share(mask: Mask, certificate: Certificate) -> str:
    return f"{percent(certificate.analysed(mask))} of the {whole(certificate)}"


def _range(band: Band, *, native: float, unit: str) -> str:
    lower, upper = (statements.grouped(rounded_down(radius * native, 3)) for radius in (band.lower, band.upper))
    return f"{lower} to {upper} {unit}"
