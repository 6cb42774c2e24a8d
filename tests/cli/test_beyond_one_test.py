"""Looks and fallback as their user asks for them, and what the written files say of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ALWAYS = ("--quiet", "--precision", "float32")


def test_all_of_it_together_reaches_the_report(certdicom, film: Path, tmp_path: Path) -> None:
    words = ("--looks", "75,90", "--fallback", "heart,lungs", "--abstain-target", "0.999", *ALWAYS)
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", "--report", tmp_path / "r.json", "--preview", tmp_path / "p.png", *words)
    assert outcome.code == 0, outcome.err
    fields = json.loads((tmp_path / "r.json").read_text())
    parameters = fields["parameters"]
    assert (parameters["n"], parameters["looks"], parameters["abstain_target"]) == (90, [75, 90], 0.999)
    assert parameters["unions"] == [[0, 1]]
    assert "alpha split over 2 looks" in parameters["family"]
    assert fields["draws_counted"] in (75, 90)
    assert fields["hypotheses"] == 4 * 64 * 64
    assert [union["label"] for union in fields["unions"]] == ["lungs or heart"]


def test_nothing_of_it_is_there_unless_asked_for(certdicom, film: Path, tmp_path: Path) -> None:
    certdicom(film, "-o", tmp_path / "s.dcm", "--report", tmp_path / "r.json", "--n", "80", *ALWAYS)
    fields = json.loads((tmp_path / "r.json").read_text())
    assert set(fields["parameters"]) == {"sigma", "tau", "n0", "n", "alpha", "family"}
    assert (fields["draws_counted"], fields["unions"]) == (80, [])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--looks", "75,90", "--n", "90"), "not allowed with argument"),
        (("--looks", "75;90"), "no list of whole numbers"),
        (("--looks", "90,75"), "looks must be rising"),
        (("--looks", "20,90"), "n = 20 draws cannot certify"),
        (("--abstain-target", "0.1"), "one look"),
        (("--fallback", "lungs,spleen"), "has no structure 'spleen'; it has lungs, heart, clavicles"),
        (("--fallback", "lungs"), "unions must be"),
        (("--family", "k-fwer:2"), "unknown option --family"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(certdicom, film: Path, tmp_path: Path, words, message, capsys) -> None:
    outcome = certdicom(film, "-o", tmp_path / "s.dcm", *words, *ALWAYS)
    assert outcome.code == 2
    assert message in outcome.err
    assert not list(tmp_path.iterdir())
