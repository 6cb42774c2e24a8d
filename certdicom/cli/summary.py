"""What the command prints when it is done."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from certdicom.certification.rounding import rounded_down
from certdicom.cli.film_work import Outcome
from certdicom.outputs import statements

_COUNTED = {"exists": "left out (--skip-existing)", "no image": "left out (no images)", "internal error": "internal errors"}


def print_result(report: Mapping[str, Any], *, files: Mapping[str, Path]) -> None:
    """The closing summary of one film, from its report."""
    console = _console(sys.stdout)
    total = _analysed_pixels(report)
    table = Table(box=None, pad_edge=False, header_style="")
    for heading, side in (("structure", "left"), ("certified present", "right"), ("certified absent", "right"), ("abstained", "right")):
        table.add_column(heading, justify=side)  # type: ignore[arg-type]  # rich's literal type, fed from a tuple
    for structure in report["structures"]:
        shares = (structure[key] / total for key in ("certified_present_px", "certified_absent_px", "abstain_px"))
        table.add_row(structure["label"], *(f"{share:.1%}" for share in shares))
    console.print(table)
    radius, parameters, window = report["radius"], report["parameters"], report["window"]
    rows, columns = report["grid"] if isinstance(report["grid"], list) else (report["grid"], report["grid"])
    medium, grid = report["source"]["medium"], f"{rows} × {columns} grid"
    lines = [
        f"abstained on {report['abstain_fraction']:.1%} of the {medium}'s pixels (any structure)",
        f"R = {rounded_down(radius['grid'])} on the {grid} = {rounded_down(radius['native'])} {radius['native_unit']} "
        f"over the whole {medium} (L2)",
        f"sigma {parameters['sigma']:g}, tau {parameters['tau']:g}, n0 {parameters['n0']}, n {report['draws_counted']}, "
        f"alpha {parameters['alpha']:g}, {report['hypotheses']} decisions in one family",
        f"family: {parameters['family']}",
        *(f"{union['label']}: certified on {union['fallback_px'] / total:.1%} where no single one is" for union in report["unions"]),
        f"window {window['lo']:.6g} … {window['hi']:.6g}, {window['source']}",
        *(f"note: {note}" for note in report["notes"]),
        f"{report['timing']['total_s']:.1f} s on {report['device']} in {report['precision']}, draws keyed by {report['seed']['kind']}",
        *(f"{option:10} {path}" for option, path in files.items()),
        "Stability under bounded perturbation, not correctness. Research use only, not a medical device.",
    ]
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _analysed_pixels(report: Mapping[str, Any]) -> int:
    """What shares are shares of: the pixels of the crop, or of the whole image."""
    analysed = report["crop"] or report["source"]
    return int(analysed["rows"] * analysed["columns"])


def print_explanation(report: Mapping[str, Any]) -> None:
    """Where it abstains and why, from the report."""
    console = _console(sys.stdout)
    total = _analysed_pixels(report)
    table = Table(box=None, pad_edge=False, header_style="")
    table.add_column("why it abstains")
    for heading in ("too few draws", "n for half", "n for all", "too close to tau", "unstable"):
        table.add_column(heading, justify="right")
    for entry in report["explanation"]:
        draws = ["–" if entry[key] is None else f"{entry[key]:,}" for key in ("draws_for_half", "draws_for_all")]
        shares = [f"{entry[key] / total:.1%}" for key in ("too_few_draws_px", "unsettled_px", "unstable_px")]
        table.add_row(entry["label"], shares[0], *draws, *shares[1:])
    console.print(table)
    console.print(Text(statements.EXPLANATION), soft_wrap=True)
    console.print(Text(report["answer"]["text"]), soft_wrap=True)


def print_films(outcomes: Sequence[Outcome], *, films: int, places: Sequence[Path], stream: TextIO) -> None:
    """A table of the films of a run, how many of how many came to what, and where the summary is."""
    console = _console(stream, width=None if stream.isatty() else 200)
    table = Table(box=None, pad_edge=False, header_style="")
    for heading in ("film", "outcome", ""):
        table.add_column(heading, overflow="fold")
    for outcome in outcomes:
        if outcome.what not in ("no image", "exists"):
            table.add_row(*(Text(cell) for cell in (str(outcome.film), outcome.what, outcome.detail)))
    if table.rows:
        console.print(table)
    counts: Counter[str] = Counter(outcome.what for outcome in outcomes)
    counts["not reached"] = films - len(outcomes)
    console.print(Text(", ".join(f"{count} {_COUNTED.get(what, what)}" for what, count in counts.items() if count)), soft_wrap=True)
    console.print(Text(f"summary    {', '.join(map(str, places))}"), soft_wrap=True)


def _console(stream: TextIO, *, width: int | None = None) -> Console:
    return _QuietConsole(file=stream, highlight=False, width=width)


class _QuietConsole(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # which the command's entry answers
