"""Tables, written in Markdown, LaTeX and HTML from the same cells."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from certdicom.certification.rounding import rounded_down
from certdicom.research.evaluation.summary import Estimate, Summary

READING_NAMES = {"certified": "certified", "answered": "answered", "worst_case": "worst-case"}


@dataclass(frozen=True)
class Table:
    """`head` and `rows` of text cells; columns after the first `text_columns` are numbers, set to the right; `caption`: one line."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 1

    def markdown(self) -> str:
        """GitHub's table, without the caption."""
        rule = ["---"] * self.text_columns + ["---:"] * (len(self.head) - self.text_columns)
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.head, rule, *self.rows))

    def latex(self) -> str:
        """A table of the package booktabs."""
        columns = "l" * self.text_columns + "r" * (len(self.head) - self.text_columns)
        lines = [" & ".join(_latex(cell) for cell in row) + r" \\" for row in (self.head, *self.rows)]
        body = [lines[0], r"\midrule", *lines[1:]]
        return "\n".join(
            [
                r"\begin{table}",
                rf"\caption{{{_latex(self.caption)}}}",
                rf"\begin{{tabular}}{{{columns}}}",
                r"\toprule",
                *body,
                r"\bottomrule",
                r"\end{tabular}",
                r"\end{table}",
            ]
        )

    def html(self) -> str:
        """A whole page that holds the table and needs nothing else."""
        head = "".join(f"<th>{html.escape(cell)}</th>" for cell in self.head)
        rows = "\n".join("<tr>" + "".join(self._cell(index, cell) for index, cell in enumerate(row)) + "</tr>" for row in self.rows)
        style = (
            "body{font:14px sans-serif}td,th{padding:.2em .7em;text-align:left}td.n{text-align:right}tr:nth-child(even){background:#f2f2f2}"
        )
        caption = html.escape(self.caption)
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{caption}</title><style>{style}</style></head><body>\n'
            f"<table>\n<caption>{caption}</caption>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</body></html>\n"
        )

    def _cell(self, index: int, cell: str) -> str:
        numeric = ' class="n"' if index >= self.text_columns else ""
        return f"<td{numeric}>{html.escape(cell)}</td>"


_LATEX = {"\\": r"\textbackslash{}", "σ": r"$\sigma$", "·": r"$\cdot$", "×": r"$\times$", "–": "--", "√": r"$\surd$", "⊘": r"$\oslash$"}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, rf"\{character}" if character in "&%$#_{}" else character) for character in text)
    return escaped.replace("~", r"\textasciitilde{}").replace("^", r"\textasciicircum{}")


def summary_table(summaries: Sequence[Summary], *, caption: str) -> Table:
    """One line a model, noise level and reading: Dice with its interval and IoU per structure, abstention, draws and seconds an image.

    Unions stand among the structures, with the share of pixels at which only they say something.
    """
    structures = tuple(dict.fromkeys(name for summary in summaries for name in summary.structures))
    unions = tuple(dict.fromkeys(name for summary in summaries for name in summary.fallback))
    rows = []
    for summary in summaries:
        said = _said_once(summary, unions)
        for line, (reading, name) in enumerate({"certified": ""}.items() if summary.is_clean else READING_NAMES.items()):
            cells = [cell for structure in structures for cell in _scores(summary, structure, reading)]
            rows.append((_model(summary) if line == 0 else "·", name, *cells, *(said if line == 0 else [""] * len(said))))
    scores = tuple(f"{name} {measure}" for name in structures for measure in ("Dice [95 %]", "IoU"))
    fallbacks = tuple(f"{name} alone" for name in unions)
    head = ("model", "reading", *scores, "abstained", *fallbacks, "draws", "s/image", "R", "R, stored values")
    return Table(caption, head, tuple(rows), text_columns=2)


def _model(summary: Summary) -> str:
    return f"{summary.bundle}, no noise" if summary.is_clean else f"{summary.bundle}, {summary.method}, sigma {summary.sigma:g}"


def _scores(summary: Summary, structure: str, reading: str) -> tuple[str, str]:
    """Dice with its interval, and IoU; empty for a structure that the model has not."""
    if structure not in summary.structures:
        return "", ""
    at = summary.structures.index(structure)
    return estimate_cell(summary.dice(reading)[at]), number(summary.iou(reading)[at].mean)


def _said_once(summary: Summary, unions: Sequence[str]) -> tuple[str, ...]:
    """What the three readings of a summary have in common."""
    seconds = f"{summary.seconds:.1f}"
    if summary.is_clean:
        return ("", *([""] * len(unions)), "", seconds, "", "")
    fallbacks = [f"{summary.fallback[name]:.1%}" if name in summary.fallback else "" for name in unions]
    radii = (rounded_down(summary.radius), rounded_down(summary.native_radius))
    return (f"{summary.abstain.mean:.1%}", *fallbacks, f"{summary.draws:.0f}", seconds, *radii)


def estimate_cell(estimate: Estimate) -> str:
    """Mean and interval: "0.974 [0.970–0.978]"; the mean alone where there is no interval, empty without a score."""
    return number(estimate.mean) if math.isnan(estimate.low) else f"{estimate.mean:.3f} [{estimate.low:.3f}–{estimate.high:.3f}]"


def number(value: float | None) -> str:
    """Three decimals; empty for None and NaN."""
    return "" if value is None or math.isnan(value) else f"{value:.3f}"


def without_nan(value: Any) -> Any:
    """JSON has no NaN: None stands for it; floats are rounded to five digits."""
    if isinstance(value, dict):
        return {key: without_nan(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_nan(entry) for entry in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 5)
    return value
