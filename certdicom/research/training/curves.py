"""The learning curves of a training: a CSV file with a line for each validation, and a picture of it."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certdicom.research.plots import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "learning.csv"
DICE, ERROR = "Dice", "error"
"""How the columns of scores begin: Dice of a data set, structure and view, and the error of denoising at a sigma."""

_NOT_CURVES = ("step", "seconds")


def append_curves(path: Path, line: Mapping[str, float]) -> None:
    """Add a line; the first one names the columns."""
    fresh = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, fieldnames=list(line))
        if fresh:
            table.writeheader()
        table.writerow(line)


def read_curves(path: Path) -> list[dict[str, float]]:
    """The lines of the file, by their columns."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(stream)]


def forget_after(path: Path, *, step: int) -> None:
    """Leave out what was written after `step`, from where a training goes on."""
    kept = [line for line in read_curves(path) if line["step"] <= step] if path.exists() else []
    path.unlink(missing_ok=True)
    for line in kept:
        append_curves(path, line)


def columns_of(scores: Mapping[str, Any], structures: Sequence[str]) -> dict[str, float]:
    """What a recipe's `validate` gives, as columns: `Dice JSRT lungs clean`, `error 0.289`."""
    return dict(_columns(scores, structures))


def _columns(scores: Mapping[str, Any], structures: Sequence[str]) -> Iterator[tuple[str, float]]:
    for data, views in scores.get("val_dice", {}).items():
        for view, values in views.items():
            yield from ((f"{DICE} {data} {structure} {view}", value) for structure, value in zip(structures, values, strict=True))
    yield from ((f"{ERROR} {sigma}", value) for sigma, value in scores.get("val_rmse", {}).items())


def learning_figure(lines: list[dict[str, float]]) -> Figure:
    """A panel of losses, and one a data set of Dice per structure and view, or one of the errors of denoising per sigma."""
    names = [name for name in lines[0] if name not in _NOT_CURVES and any(map(isfinite, (line[name] for line in lines)))]
    panels = {"loss on training images": [name for name in names if not name.startswith((f"{DICE} ", f"{ERROR} "))]}
    for name in names:
        if name.startswith(f"{DICE} "):
            panels.setdefault(f"{DICE} on validation images of {name.split()[1]}", []).append(name)
    if len(panels) == 1:
        panels["error on validation images"] = [name for name in names if name.startswith(f"{ERROR} ")]
    across = min(len(panels), 3)
    down = -(-len(panels) // across)
    figure = blank_figure(5 * across, 4.5 * down)
    places = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (title, chosen) in zip(places, panels.items(), strict=False):
        for name in chosen:
            axes.plot([line["step"] for line in lines], [line[name] for line in lines], label=name.split(maxsplit=2)[-1])
        axes.set(xlabel="step", title=title)
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))
    for axes in places[len(panels) :]:
        axes.set_axis_off()
    places[0].set_yscale("log")
    return figure
