"""Result files, and docs/results.md made from them; no figure in the docs is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from certdicom.certification.rounding import rounded_down
from certdicom.research.evaluation.rows import READINGS
from certdicom.research.evaluation.summary import Estimate, Summary
from certdicom.research.evaluation.tables import Table, number, without_nan
from certdicom.research.paper.paper import TABLES, best_of_table1, paper
from certdicom.research.paper.reproduce import reproduction_section

EQUAL_RADIUS = {0.072: 0.25, 0.144: 0.5, 0.289: 1.0}
"""Noise on our gray 256 grid → the paper's noise of the same native radius (RGB, 512 grid): sigma · 2 · √3 rounded."""


def result_file(
    summaries: Sequence[Summary],
    *,
    command: str,
    data: str,
    split: str,
    machine: str,
    parameters: dict[str, Any],
    beyond: Sequence[str],
    protocol: str,
    window: str,
) -> dict[str, Any]:
    """The JSON content of one bundle's evaluation: what was run, where, and what came out; NaN becomes None.

    `beyond`: what of the test goes beyond Holm at n draws, see `plan.beyond`; `window`: under which images were shown, see `plan.shown`.
    """
    clean = next(summary for summary in summaries if summary.is_clean)
    fields = {
        "command": command,
        "machine": machine,
        "bundle": {"name": clean.bundle, "sha256": clean.bundle_sha256},
        "data": {"name": data, "split": split, "films": clean.images},
        "protocol": protocol,
        "window": window,
        "labels": list(clean.structures),
        "parameters": parameters,
        "beyond": list(beyond),
        "clean_dice": [estimate.mean for estimate in clean.dice()],
        "certified": [_certified(summary) for summary in summaries if not summary.is_clean],
    }
    return dict(without_nan(fields))


def _certified(summary: Summary) -> dict[str, Any]:
    def values(measure: str) -> dict[str, list[float]]:
        return {reading: [estimate.mean for estimate in summary.scores[measure, reading]] for reading in READINGS}

    def interval(estimate: Estimate) -> list[float]:
        return [estimate.low, estimate.high]

    return {
        "sigma": summary.sigma,
        "method": summary.method,
        "radius": float(rounded_down(summary.radius, 5)),
        "native_radius": float(rounded_down(summary.native_radius, 5)),
        "films": summary.images,
        "draws": summary.draws,
        "dice": values("dice"),
        "iou": values("iou"),
        "dice_interval": {reading: [interval(estimate) for estimate in summary.dice(reading)] for reading in READINGS},
        "abstain_fraction": summary.abstain.mean,
        "abstain_by_structure": list(summary.abstain_by),
        "fallback": summary.fallback,
        "seconds_per_film": round(summary.seconds, 2),
    }


def markdown_table(content: dict[str, Any]) -> str:
    """One result file as a Markdown table: Dice in the three readings, abstention, seconds."""
    labels, data = content["labels"], content["data"]
    blank = ("", "")
    rows: list[tuple[str, ...]] = [("clean Dice, no noise", *map(number, content["clean_dice"]), *blank)]
    for row in content["certified"]:
        certified = [_with_interval(row, index) for index in range(len(labels))]
        rows += [
            (f"certified Dice, sigma {row['sigma']:g}", *certified, f"{row['abstain_fraction']:.1%}", f"{row['seconds_per_film']:.1f}"),
            ("· certified IoU", *map(number, row["iou"]["certified"]), *blank),
            ("· answered Dice", *map(number, row["dice"]["answered"]), *blank),
            ("· worst-case Dice", *map(number, row["dice"]["worst_case"]), *blank),
        ]
    head = f"{data['name']} {data['split']}, {data['films']} films, {content['window']}"
    return Table(head, (head, *labels, "abstained", "s/film"), tuple(rows)).markdown()


def _with_interval(row: dict[str, Any], index: int) -> str:
    mean = row["dice"]["certified"][index]
    bounds = row["dice_interval"]["certified"][index] if "dice_interval" in row else [None, None]
    return number(mean) if mean is None or bounds[0] is None else f"{mean:.3f} [{bounds[0]:.3f}–{bounds[1]:.3f}]"


_INTRODUCTION = """\
# Results

<!-- Made by `python scripts/render_results`; edit that, or certdicom/research/evaluation/results.py. -->

Bundle `{name}`, SHA-256 `{sha256}`. n0 = 10, n = 100, alpha = 0.001, tau = 0.75, one Holm
family per film over all structures and pixels of the 256 × 256 grid. The films below took no part in training, but the
recipe was chosen while looking at them; the published test splits were not touched. [How to run this](evaluation.md).

*Certified* Dice is the paper's: an abstained foreground pixel is missed, an abstained background pixel is free.
*Answered* leaves abstained pixels out; *worst-case* counts every abstained pixel as wrong: what it counts as right, no
attack within R turns round (a changed film may abstain on more). The *window of the files* is the full range of the pictures'
format; the same films are also scored under the [displayed window](certificate.md#the-displayed-window), as films without a window are
certified ([what it does](evaluation.md#windows)). Abstained is the share of pixels at which any structure abstains. In brackets: the
95 % bootstrap interval over films.
"""

_BESIDE_THE_PAPER = """\
## Beside the paper

The paper adds noise to 512 × 512 images replicated to RGB; the same radius in the film's own stored values is reached on
the gray 256 × 256 grid with sigma / (2√3). Its figures are the best of its three networks on its JSRT test split
({source}, Table 1); ours are on our validation films, so this compares magnitudes, not the same films.

| sigma, theirs | sigma, ours | lungs, theirs / ours | heart | clavicles |
| ---: | ---: | ---: | ---: | ---: |
"""

_TABLES = """\
## The paper's tables

Tables that name PyTorch were scored by version 0.1.0. The draws have changed since (noise is summed in float64 and rounded,
and comes from another generator), and the three JSRT bundles then borrowed a larger denoiser, that of the first edition's
`cxr-gray-256`.
"""


def read_results(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The result files in docs/results, and in its folder reproduce the reproduced tables in the paper's order.

    Those of one data set come together, the files' window first. What people wrote of a table, in `TABLE.md` beside its `TABLE.json`,
    comes with it as "notes".
    """
    contents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"), key=lambda path: path.stem)]
    tables = [folder / "reproduce" / f"{table}.json" for table in TABLES]
    return contents, [_with_notes(path) for path in tables if path.is_file()]


def _with_notes(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    notes = path.with_suffix(".md")
    return {**content, "notes": notes.read_text(encoding="utf-8").strip()} if notes.is_file() else content


def results_page(contents: Sequence[dict[str, Any]], reproductions: Sequence[dict[str, Any]] = ()) -> str:
    """The whole of docs/results.md from all result files and the files of `certdicom reproduce`."""
    parts = [_INTRODUCTION.format(**contents[0]["bundle"])]
    parts += [f"{markdown_table(content)}\n\n{_origin(content)}\n" for content in contents]
    jsrt = next((content for content in contents if content["data"]["name"] == "jsrt"), None)
    rows = "".join(_beside_paper(row) for row in jsrt["certified"] if round(row["sigma"], 3) in EQUAL_RADIUS) if jsrt else ""
    parts.append(_BESIDE_THE_PAPER.format(source=paper().source) + rows)
    parts.append(_TABLES)
    return "\n".join([*parts, *(reproduction_section(content) for content in reproductions)])


def _origin(content: dict[str, Any]) -> str:
    """Where a result file's figures come from, and what was tested otherwise than by Holm at n draws."""
    origin = f"`{content['command']}` on {content['machine']}."
    return " ".join([origin, *(f"**{said[0].upper()}{said[1:]}.**" for said in content.get("beyond", []))])


def _beside_paper(row: dict[str, Any]) -> str:
    sigma = round(row["sigma"], 3)
    theirs = best_of_table1(EQUAL_RADIUS[sigma])
    pairs = (f"{best:.2f} / {ours:.3f}" for best, ours in zip(theirs, row["dice"]["certified"], strict=True))
    return f"| {EQUAL_RADIUS[sigma]:g} | {sigma:g} | {' | '.join(pairs)} |\n"
