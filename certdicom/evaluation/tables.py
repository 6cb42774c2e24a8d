"""Result files and the Markdown tables made from them; no figure in the docs is typed by hand."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from certdicom.evaluation.certified import Result

PAPER_SIGMAS = {0.072: 0.25, 0.144: 0.5, 0.289: 1.0}
"""Noise on our gray 256 grid → the paper's noise of the same native radius (RGB, 512 grid): sigma · 2 · √3 rounded."""

PAPER_BEST = {0.072: (0.95, 0.93, 0.85), 0.144: (0.94, 0.91, 0.63), 0.289: (0.90, 0.87, 0.28)}
"""Laousy et al. 2023, Table 1, JSRT test: the best Dice of their three networks for lungs, heart and clavicles."""


def result_file(
    *,
    command: str,
    data: str,
    split: str,
    films: int,
    bundle: str,
    bundle_sha256: str,
    labels: Sequence[str],
    parameters: dict[str, Any],
    clean: Sequence[float],
    results: Iterable[tuple[Result, float]],
    machine: str,
) -> dict[str, Any]:
    """The JSON content of one evaluation: what was run, where, and what came out; NaN becomes None."""
    fields = {
        "command": command,
        "machine": machine,
        "bundle": {"name": bundle, "sha256": bundle_sha256},
        "data": {"name": data, "split": split, "films": films},
        "labels": list(labels),
        "parameters": parameters,
        "clean_dice": list(clean),
        "certified": [{**asdict(result), "seconds_per_film": round(seconds, 2)} for result, seconds in results],
    }
    return dict(_without_nan(fields))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_without_nan(entry) for entry in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 5)
    return value


def markdown_table(content: dict[str, Any]) -> str:
    """One result file as a Markdown table: Dice in the three readings, abstention, seconds."""
    labels = content["labels"]
    data = content["data"]
    head = f"{data['name']} {data['split']}, {data['films']} films"
    lines = [
        f"| {head} | {' | '.join(labels)} | abstained | s/film |",
        "| --- |" + " ---: |" * (len(labels) + 2),
        f"| clean Dice, no noise | {_cells(content['clean_dice'])} | | |",
    ]
    for row in content["certified"]:
        sigma = row["sigma"]
        certified, abstained = _cells(row["dice"]["certified"]), f"{row['abstain_fraction']:.1%}"
        lines.append(f"| certified Dice, sigma {sigma:g} | {certified} | {abstained} | {row['seconds_per_film']:.1f} |")
        lines.append(f"| · certified IoU | {_cells(row['iou']['certified'])} | | |")
        lines.append(f"| · answered Dice | {_cells(row['dice']['answered'])} | | |")
        lines.append(f"| · worst-case Dice | {_cells(row['dice']['worst_case'])} | | |")
    return "\n".join(lines)


def _cells(values: Sequence[float | None]) -> str:
    return " | ".join("" if value is None else f"{value:.3f}" for value in values)


_INTRODUCTION = """\
# Results

<!-- Made by `python scripts/render_results`; edit that, or certdicom/evaluation/tables.py. -->

Bundle `{name}`, SHA-256 `{sha256}`. n0 = 10, n = 100, alpha = 0.001, tau = 0.75, one Holm
family per film over all structures and pixels of the 256 × 256 grid. The films below took no part in training, but the
recipe was chosen while looking at them; the published test splits were not touched.

*Certified* Dice is the paper's: an abstained foreground pixel is missed, an abstained background pixel is free.
*Answered* leaves abstained pixels out; *worst-case* counts every abstained pixel as wrong, and is the only one that no
attack within R can lower. Abstained is the share of pixels at which any structure abstains.
"""

_BESIDE_THE_PAPER = """\
## Beside the paper

The paper adds noise to 512 × 512 images replicated to RGB; the same radius in the film's own stored values is reached on
the gray 256 × 256 grid with sigma / (2√3). Its figures are the best of its three networks on its JSRT test split (Laousy
et al. 2023, Table 1); ours are on our validation films, so this compares magnitudes, not the same films.

| sigma, theirs | sigma, ours | lungs, theirs / ours | heart | clavicles |
| ---: | ---: | ---: | ---: | ---: |
"""


def results_page(contents: Sequence[dict[str, Any]]) -> str:
    """The whole of docs/results.md from all result files."""
    parts = [_INTRODUCTION.format(**contents[0]["bundle"])]
    parts += [f"{markdown_table(content)}\n\n`{content['command']}` on {content['machine']}.\n" for content in contents]
    jsrt = next((content for content in contents if content["data"]["name"] == "jsrt"), None)
    rows = "".join(_beside_paper(row) for row in jsrt["certified"] if round(row["sigma"], 3) in PAPER_BEST) if jsrt else ""
    return "\n".join([*parts, _BESIDE_THE_PAPER + rows])


def _beside_paper(row: dict[str, Any]) -> str:
    sigma = round(row["sigma"], 3)
    pairs = (f"{theirs:.2f} / {ours:.3f}" for theirs, ours in zip(PAPER_BEST[sigma], row["dice"]["certified"], strict=True))
    return f"| {PAPER_SIGMAS[sigma]:g} | {sigma:g} | {' | '.join(pairs)} |\n"
