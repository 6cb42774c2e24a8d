"""info, bundles, --version, help, start-up."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certdicom.cli.main import COMMANDS, build_parser
from certdicom.imaging.synthetic import synthetic_film, write_film


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)


def test_version_says_research_use_only() -> None:
    outcome = python("-m", "certdicom", "--version")
    assert outcome.returncode == 0
    assert "Research use only, not a medical device" in outcome.stdout


def test_importing_is_cheap_and_loads_no_torch() -> None:
    code = (
        "import time; t = time.perf_counter(); import certdicom; print(time.perf_counter() - t)\n"
        "import sys; assert not {'torch', 'pydicom', 'numpy'} & set(sys.modules)"
    )
    seconds = min(float(python("-c", code).stdout) for _ in range(3))
    assert seconds < 0.3


@pytest.mark.parametrize(
    "module",
    [
        "certdicom.pipeline",
        "certdicom.cli.certify_command",
        "certdicom.outputs.seg",
        "certdicom.outputs.preview",
        "certdicom.imaging",
    ],
)
def test_rooms_that_must_not_load_torch(module: str) -> None:
    outcome = python("-c", f"import {module}, sys; sys.exit('torch' in sys.modules)")
    assert outcome.returncode == 0, outcome.stderr


def test_a_mistake_is_told_at_once() -> None:
    start = time.perf_counter()
    outcome = python("-m", "certdicom", "film.dcm", "-o", "s.dcm", "--n", "20")
    assert outcome.returncode == 2
    assert "smallest n" in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert time.perf_counter() - start < 5, "no network is loaded to find a wrong number"


def test_no_arguments_prints_help_and_is_wrong_usage(certdicom) -> None:
    outcome = certdicom(bundle=None)
    assert outcome.code == 2
    assert "usage: certdicom" in outcome.out


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(command: str) -> None:
    text = build_parser(command).format_help()
    assert command in text
    assert "Research use only" in text


def test_info_describes_without_naming_the_patient(certdicom, film: Path) -> None:
    outcome = certdicom("info", film, bundle=None)
    assert outcome.code == 0
    assert "MONOCHROME2" in outcome.out
    assert "SYNTHETIC" not in outcome.out.upper().replace("SYNTHETIC FILM", "")


def test_info_on_a_refused_film_says_why_and_is_code_3(certdicom, tmp_path: Path) -> None:
    path = tmp_path / "lateral.dcm"
    write_film(synthetic_film(view_position="LL")[0], path)
    outcome = certdicom("info", path, "--json", bundle=None)
    assert outcome.code == 3
    fields = json.loads(outcome.out)
    assert fields["accepted"] is False
    assert "lateral" in fields["reason"].lower()


def test_a_site_names_its_own_words_for_the_chest(certdicom, tmp_path: Path) -> None:
    path = tmp_path / "film.dcm"
    dataset = synthetic_film(rows=80, columns=72)[0]
    dataset.BodyPartExamined = "RX_TORSO"
    write_film(dataset, path)
    assert "BodyPartExamined RX_TORSO is not the chest" in certdicom("info", path, bundle=None).out
    words = ("--body-part", "halle", "--body-part", "rx torso")
    assert certdicom("info", path, *words, bundle=None).code == 0
    assert certdicom(path, "-o", tmp_path / "seg.dcm", "--n", "80").code == 3
    assert certdicom(path, "-o", tmp_path / "seg.dcm", "--n", "80", *words).code == 0


@pytest.mark.parametrize("words", [("bundle", "list"), ("bundles",)])
def test_bundles_lists_the_default_with_its_noise_range(certdicom, words) -> None:
    outcome = certdicom(*words, "--json", bundle=None)
    assert outcome.code == 0
    default = next(entry for entry in json.loads(outcome.out) if entry["name"] == "cxr-gray-256")
    assert default["structures"] == ["lungs", "heart", "clavicles"]
    assert "cxr-gray-256 (default)" in certdicom(*words, bundle=None).out


def test_the_model_card_names_data_terms_and_limits(certdicom) -> None:
    card = certdicom("bundle", "card", "cxr-gray-256", bundle=None).out
    assert certdicom("bundles", "--card", "cxr-gray-256", bundle=None).out == card
    for needed in ("JSRT", "Research use only", "redistribut", "Limits", "sigma"):
        assert needed in card, needed


def test_a_bundle_without_a_card_is_told_in_a_line(certdicom, tiny_bundle: Path) -> None:
    outcome = certdicom("bundle", "card", tiny_bundle, bundle=None)
    assert outcome.code == 2
    assert re.fullmatch(r"certdicom: .*MODEL_CARD.md cannot be read: .* and their terms.*\n", outcome.err)


@pytest.mark.parametrize("words", ["bundle list --json", "bundle card", "info FILM", "FILM --preview OUT --bundle BUNDLE --n 75"])
def test_a_closed_pipe_is_no_error(film: Path, tiny_bundle: Path, tmp_path: Path, words: str) -> None:
    """Its reader has gone before the first word."""
    for name, path in (("FILM", film), ("OUT", tmp_path / "p.png"), ("BUNDLE", tiny_bundle)):
        words = words.replace(name, str(path))
    command = f"{sys.executable} -m certdicom {words} | head -n 0; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "certdicom:" not in done.stderr
    assert "Exception" not in done.stderr
