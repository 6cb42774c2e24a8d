"""Means, intervals, and the tables made of them."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from certdicom.certification.scores import score
from certdicom.errors import UnreadableError
from certdicom.research.evaluation.rows import COLUMNS, Row, RowFile, read_rows, score_columns, write_parquet
from certdicom.research.evaluation.summary import FEWEST_GROUPS, interval, summarise
from certdicom.research.evaluation.tables import Table, summary_table


def row(image: str = "a", structure: str = "lungs", **changes) -> Row:
    decisions = np.array([[1, 1, 2, 0]], np.uint8)
    fields = {
        "image": image,
        "group": image,
        "bundle": "b",
        "bundle_sha256": "ab",
        "method": "one-shot",
        "sigma": 0.25,
        "structure": structure,
        "radius": 0.17,
        "native_radius": 43.0,
        **score_columns(score(decisions, np.array([[True, True, True, False]]))),
        "abstain": 0.25,
        "abstain_image": 0.25,
        "fallback": math.nan,
        "draws": 100,
        "dice_at_radius": "0.8 0.5",
        "seconds": 1.0,
    }
    return Row(**{**fields, **changes})


def test_means_leave_out_images_without_a_score() -> None:
    unknown = row("b", **score_columns(None), dice_at_radius="")
    (summary,) = summarise([row("a"), unknown])
    assert summary.dice()[0].mean == pytest.approx(0.8)
    assert summary.iou("answered")[0].mean == 1.0
    assert summary.curve == {"lungs": (0.8, 0.5)}
    assert summary.images == 2
    assert math.isnan(summarise([unknown])[0].dice()[0].mean)
    negative = row("c", dice_at_radius="0.0 nan")
    assert summarise([row("a"), negative])[0].curve == {"lungs": (0.4, 0.5)}


@pytest.mark.parametrize("patients", [1, 2, FEWEST_GROUPS - 1])
def test_few_patients_have_a_mean_and_no_interval(patients: int) -> None:
    (summary,) = summarise([row(f"{patient} {view}", group=f"{patient}") for patient in range(patients) for view in "ab"])
    assert summary.dice()[0].mean == pytest.approx(0.8)
    assert math.isnan(summary.dice()[0].low)
    assert "| 0.800 | 0.667 |" in summary_table([summary], caption="x").markdown()


def test_unions_and_what_only_they_say_stand_in_the_table() -> None:
    rows = [
        changed
        for image in "ab"
        for changed in (
            row(image, draws=300),
            row(image, "lungs or heart", draws=300, fallback=0.02, abstain_image=0.25, dice_at_radius=""),
        )
    ]
    (summary,) = summarise(rows)
    assert summary.draws == 300
    assert summary.fallback == {"lungs or heart": pytest.approx(0.02)}
    table = summary_table([summary], caption="x")
    first = dict(zip(table.head, table.rows[0], strict=True))
    assert first["lungs or heart Dice [95 %]"] == "0.800"
    assert (first["lungs or heart alone"], first["draws"], first["abstained"]) == ("2.0%", "300", "25.0%")


def test_the_interval_is_over_patients_and_the_same_at_every_run() -> None:
    values = np.random.default_rng(0).normal(0.8, 0.1, 60).tolist()
    alone = interval(values, [str(i) for i in range(60)])
    assert alone == interval(values, [str(i) for i in range(60)])
    assert alone.low < alone.mean < alone.high
    assert (alone.high - alone.low) / 2 == pytest.approx(1.96 * np.std(values) / 60**0.5, rel=0.15)
    repeated = interval([v for v in values for _ in range(4)], [str(i) for i in range(60) for _ in range(4)])
    assert repeated.high - repeated.low == pytest.approx(alone.high - alone.low, rel=0.15), "four frames of a video are not four videos"


def test_equal_scores_have_an_interval_of_no_width() -> None:
    groups = [str(group) for group in range(FEWEST_GROUPS)]
    found = interval([0.8] * FEWEST_GROUPS, groups)
    assert (found.low, found.mean, found.high) == pytest.approx((0.8, 0.8, 0.8))


def coverage(groups: int, *, runs: int = 500) -> float:
    """Share of simulated data sets whose interval holds the true mean of skewed scores like Dice, 1 - 0.02 χ²₂, one an image."""
    random = np.random.default_rng(groups)
    held = 0
    for run in range(runs):
        found = interval((1 - 0.02 * random.chisquare(2, groups)).tolist(), [str(group) for group in range(groups)], seed=run)
        held += found.low <= 0.96 <= found.high
    return held / runs


def test_the_intervals_cover_what_the_docs_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """About 90 % over 10 to 22 patients, near 95 % over many; over 3 it would be far from it, and none is given."""
    monkeypatch.setattr("certdicom.research.evaluation.summary.RESAMPLES", 500)
    assert 0.85 < coverage(FEWEST_GROUPS) < 0.95
    assert 0.88 < coverage(22) < 0.97
    assert 0.92 < coverage(100) < 0.98
    monkeypatch.setattr("certdicom.research.evaluation.summary.FEWEST_GROUPS", 3)
    assert coverage(3) < 0.8


def test_rows_survive_a_write_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    kept = RowFile(path, planes={"ab": 2})
    kept.append([row("a", "lungs"), row("a", "heart", dice_certified=math.nan)])
    kept.append([row("b", "lungs"), row("b", "heart")])
    text = path.read_text()
    assert tuple(next(csv.reader([text.splitlines()[0]]))) == COLUMNS
    for cut in (1, len(text.splitlines()[-1]) + 1):
        path.write_text(text[:-cut])
        again = RowFile(path, planes={"ab": 2})
        assert [r.image for r in again.rows] == ["a", "a"], "half an image is computed again"
        assert math.isnan(again.rows[1].dice_certified)
        again.append([row("b", "lungs"), row("b", "heart")])
        assert path.read_text() == text


def test_a_cut_through_a_letter_or_a_strange_name_loses_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    kept = RowFile(path, planes={"ab": 1})
    names = ["a\u2028b", "c\x0cd", 'say "x, y"', "Kühne"]
    for name in names:
        kept.append([row(name)])
    content = path.read_bytes()
    path.write_bytes(content + row("ü").image.encode()[:1])
    again = RowFile(path, planes={"ab": 1})
    assert [found.image for found in again.rows] == names
    assert path.read_bytes() == content
    assert type(again.rows[0].draws) is int


def test_a_file_of_something_else_is_told(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("x,y\n1,2\n")
    with pytest.raises(UnreadableError, match="its columns are others"):
        read_rows(path)
    RowFile(path.with_name("good.csv"), planes={}).append([row()])
    damaged = path.with_name("good.csv").read_text().replace(",0.17,", ",x,")
    path.write_text(damaged)
    with pytest.raises(UnreadableError, match="damaged line"):
        read_rows(path)


def test_parquet_holds_the_same(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_parquet([row(), row(dice_certified=math.nan)], tmp_path / "rows.parquet")
    table = parquet.read_table(tmp_path / "rows.parquet").to_pylist()
    assert table[0]["dice_certified"] == pytest.approx(0.8)
    assert table[0]["dice_at_radius"] == [0.8, 0.5]
    assert table[1]["dice_certified"] is None


def test_one_table_in_three_languages() -> None:
    films = [row(f"film {number}") for number in range(FEWEST_GROUPS)]
    summaries = summarise([*films, row("a", sigma=0.0, method="clean", abstain_image=0.0)])
    table = summary_table(summaries, caption="films & 50 % of <them>")
    lines = table.markdown().splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert "0.800 [0.800–0.800]" in lines[2]
    assert "b, one-shot, sigma 0.25" in lines[2]
    assert "25.0%" in lines[2]
    assert r"films \& 50 \% of <them>" in table.latex()
    assert all(line.count(" & ") == len(table.head) - 1 for line in table.latex().splitlines() if line.endswith(r"\\"))

    class Cells(HTMLParser):
        found: list[str]

        def handle_data(self, data: str) -> None:
            self.found.append(data)

    parser = Cells()
    parser.found = []
    parser.feed(table.html())
    assert "films & 50 % of <them>" in parser.found
    assert "0.800 [0.800–0.800]" in parser.found


def test_latex_keeps_its_special_characters_apart() -> None:
    table = Table("a_b {c} ~ \\ ^ #", ("x",), (("σ = 1 %",),))
    assert r"a\_b \{c\} \textasciitilde{} \textbackslash{} \textasciicircum{} \#" in table.latex()
    assert r"$\sigma$ = 1 \%" in table.latex()


def test_structures_may_differ_between_models() -> None:
    table = summary_table(summarise([row(), replace(row(structure="polyp"), bundle="c", bundle_sha256="cd")]), caption="x")
    assert [name for name in table.head if "Dice" in name] == ["lungs Dice [95 %]", "polyp Dice [95 %]"]
    assert len({len(cells) for cells in table.rows}) == 1
