"""The documentation site builds without a warning, and what it says of the code is the code's."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs", reason="mkdocs-material and mkdocstrings-python are not installed (scripts/setup dev)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr
    return folder


def text(site: Path, page: str) -> str:
    return (site / page).read_text(encoding="utf-8")


def test_every_command_and_every_setting_has_its_entry(site):
    from certdicom.cli.main import COMMANDS
    from certdicom.node.settings import DESTINATION_SETTINGS, SETTINGS

    commands, settings = text(site, "reference/commands.html"), text(site, "reference/settings.html")
    for command in COMMANDS:
        assert f">certdicom {command}<" in commands
    assert "--explain FILE" in commands
    assert "--sigma SIGMA" in commands
    assert "auto|cpu|cuda[:i]" in re.sub(r"&#124;", "|", commands)
    assert "\\|" not in commands + settings
    for setting in (*SETTINGS, *DESTINATION_SETTINGS):
        assert f"<code>{setting.name}</code>" in settings


def test_public_names_are_described_from_their_docstrings(site):
    page = text(site, "reference/api.html")
    for name in (
        "certdicom.pipeline.certify",
        "certdicom.imaging.reading.read_radiograph",
        "certdicom.certification.sampling.certify_grid",
    ):
        assert f'id="{name}"' in page
    assert "With confidence 1 - alpha" in page


def test_model_cards_results_and_pictures_are_there(site):
    assert "cxr-gray-256" in text(site, "reference/model-cards.html")
    assert "certified Dice" in text(site, "results.html")
    for picture in ("preview.jpg", "explain.jpg"):
        assert f"pictures/{picture}" in text(site, "radiologists.html")
        assert (site / "pictures" / picture).stat().st_size < 300_000


def test_the_site_says_on_every_page_that_it_is_for_research(site):
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    assert len(pages) > 15
    assert all("Research use only, not a medical device" in path.read_text(encoding="utf-8") for path in pages)
