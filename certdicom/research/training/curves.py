"""The learning curves of a training as a picture: the losses, and the scores on the validation images."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certdicom.research.plots import blank_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CURVES = "learning.jsonl"
_NOT_CURVES = ("step", "seconds")


def read_curves(path: Path) -> list[dict[str, Any]]:
    """The lines of `learning.jsonl`, one for each validation."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def learning_figure(lines: list[dict[str, Any]], *, structures: tuple[str, ...]) -> Figure:
    """Losses on the left; on the right Dice per structure and view, or the error of denoising per sigma."""
    figure = blank_figure(10, 4)
    losses, scores = figure.subplots(1, 2)
    steps = [line["step"] for line in lines]
    for name in (name for name, value in lines[0].items() if isinstance(value, float) and name not in _NOT_CURVES):
        losses.plot(steps, [line[name] for line in lines], label=name)
    series: dict[str, list[float]] = {}
    for line in lines:
        for name, value in _scores(line, structures):
            series.setdefault(name, []).append(value)
    for name, values in series.items():
        scores.plot(steps, values, label=name)
    losses.set(xlabel="step", ylabel="on training images", yscale="log")
    scores.set(xlabel="step", ylabel="Dice on validation images" if "val_dice" in lines[0] else "error on validation images")
    for axes in (losses, scores):
        axes.grid(alpha=0.3)
        axes.legend(fontsize="x-small")
    return figure


def _scores(line: Mapping[str, Any], structures: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    for data, views in line.get("val_dice", {}).items():
        for view, values in views.items():
            yield from ((f"{data} {structure}, {view}", value) for structure, value in zip(structures, values, strict=True))
    if "val_dice" not in line:
        yield from ((f"sigma {sigma}", value) for sigma, value in line.get("val_rmse", {}).items())
