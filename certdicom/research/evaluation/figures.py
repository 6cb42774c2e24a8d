"""Pictures of an evaluation, as PNG and SVG: the paper's Figure 1, and certified Dice over the radius. Needs matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSTAIN, PRESENT, Structure
from certdicom.errors import UsageError
from certdicom.outputs.palette import RGB, STRUCTURE_RGB
from certdicom.research.evaluation.summary import Summary, curve_radii
from certdicom.research.plots import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHITE: RGB = (255, 255, 255)
_LINES = ("-", "--", ":", "-.")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")


@dataclass(frozen=True, eq=False)
class PanelRow:
    """One line of Figure 1: its title ("sigma 0.25") and panels (rows, columns, 3) uint8, None where there is nothing to show."""

    title: str
    panels: tuple[NDArray[np.uint8] | None, ...]


def paint(decisions: NDArray[np.uint8], structures: Sequence[Structure]) -> NDArray[np.uint8]:
    """Decisions (structures, rows, columns) → RGB: black, each structure in its colour, white where any abstains."""
    picture = np.zeros((*decisions.shape[1:], 3), np.uint8)
    for plane, structure in zip(decisions, structures, strict=True):
        picture[plane == PRESENT] = STRUCTURE_RGB.get(structure.label, structure.rgb)
    picture[(decisions == ABSTAIN).any(axis=0)] = WHITE
    return picture


def photograph(u: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image (1 or 3 channels, rows, columns), clipped to [0, 1] → RGB (rows, columns, 3)."""
    planes = np.repeat(u, 3, axis=0) if len(u) == 1 else u
    return np.rint(np.moveaxis(planes.clip(0, 1), 0, -1) * 255).astype(np.uint8)


def panel_figure(columns: Sequence[str], rows: Sequence[PanelRow], *, note: str) -> Figure:
    """Figure 1 of the paper: a line a noise level, a column a kind of picture."""
    figure = blank_figure(2.1 * len(columns), 2.2 * len(rows) + 0.5)
    axes = figure.subplots(len(rows), len(columns), squeeze=False)
    for row, line in zip(axes, rows, strict=True):
        for place, panel in zip(row, line.panels, strict=True):
            place.set(xticks=[], yticks=[])
            if panel is None:
                place.set(facecolor="0.85", box_aspect=1)  # white would say that it abstains
                place.text(0.5, 0.5, "open", ha="center", va="center", transform=place.transAxes)
            else:
                place.imshow(panel, interpolation="nearest")
        row[0].set_ylabel(line.title)
    for place, name in zip(axes[0], columns, strict=True):
        place.set_title(name, fontsize="medium")
    figure.supxlabel(note, fontsize="small")
    return figure


def curve_figure(summaries: Sequence[Summary]) -> Figure:
    """Mean certified Dice over the radius: a plot a structure, a colour a model, a line style a noise level.

    A decision counts at a radius when its own certified radius reaches it; all radii of an image hold at once. Between two radii
    the lower value is drawn.
    """
    shown = [summary for summary in summaries if any(summary.curve.values())]
    if not shown:
        raise UsageError("there is no certified result to draw: the run has no noise level or no reference masks")
    structures = tuple(dict.fromkeys(name for summary in shown for name, series in summary.curve.items() if series))
    models = list(dict.fromkeys((summary.bundle, summary.method) for summary in shown))
    sigmas = sorted({summary.sigma for summary in shown})
    figure = blank_figure(3.6 * len(structures) + 0.6, 3.6)
    axes = figure.subplots(1, len(structures), squeeze=False, sharey=True)[0]
    for place, structure in zip(axes, structures, strict=True):
        for summary in shown:
            if series := summary.curve.get(structure):
                model = summary.bundle, summary.method
                style = _LINES[sigmas.index(summary.sigma) % len(_LINES)]
                colour = _COLOURS[models.index(model) % len(_COLOURS)]
                place.plot(
                    curve_radii(summary),
                    series,
                    style,
                    drawstyle="steps-pre",
                    color=colour,
                    label=f"{' '.join(model)}, sigma {summary.sigma:g}",
                )
        place.set(title=structure, xlabel="R", ylim=(0, 1.02))
        place.grid(alpha=0.3)
    axes[0].set_ylabel("certified Dice")
    axes[-1].legend(fontsize="x-small", loc="lower left")
    return figure
