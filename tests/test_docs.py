"""The documentation against the code: what is not written down fails here."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from certdicom.cli.certify_command import add_arguments
from certdicom.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def options() -> list[str]:
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return [option for action in parser._actions for option in action.option_strings if option.startswith("--")]


@pytest.mark.parametrize("option", options())
def test_every_option_of_the_main_job_is_in_the_readme(option: str) -> None:
    assert re.search(rf"{option}\b", README) or option == "--output"


def test_every_command_is_in_the_readme_or_the_docs() -> None:
    text = README + "".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    for command in COMMANDS:
        assert f"certdicom {command}" in text or command == "certify", command


def test_every_exit_code_is_in_the_readme() -> None:
    for code in (0, 2, 3, 4, 5):
        assert re.search(rf"^\| {code} \|", README, re.MULTILINE)


def test_every_field_of_the_report_is_documented(make_certificate) -> None:
    import numpy as np

    from certdicom.outputs.report_json import build_report

    certificate = make_certificate()
    report = build_report(certificate, np.zeros((3, 20, 30), np.uint8), sop_instance_uid="1.2.3", file_sha256="ab", seconds={"total": 1})
    text = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    for field in report:
        assert f"`{field}`" in text, field
    for structure_field in report["structures"][0]:
        assert f"`{structure_field}`" in text, structure_field


def test_every_room_is_in_the_architecture() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for room in (ROOT / "certdicom").iterdir():
        if room.is_dir() and room.name != "__pycache__":
            assert f"certdicom/{room.name}/" in text, room.name


def test_every_file_that_the_architecture_names_is_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = {name for name in re.findall(r"`([\w/]+\.py)`", text) if name != "cli/x_command.py" and not name.startswith("tests/")}
    assert len(named) > 30
    known = {str(path.relative_to(ROOT / "certdicom")) for path in (ROOT / "certdicom").rglob("*.py")}
    assert [name for name in named if not any(path == name or path.endswith("/" + name) for path in known)] == []


def test_links_between_documents_lead_somewhere() -> None:
    for document in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", document.read_text(encoding="utf-8")):
            generated = document.parent.name == "docs" and target.startswith("reference/")  # the site's build checks these
            assert generated or (document.parent / target).exists(), f"{document.name} → {target}"


def test_research_use_only_is_said_where_it_must_be() -> None:
    from certdicom.version import RESEARCH_USE

    assert RESEARCH_USE == "Research use only, not a medical device."
    assert "Research use only, not a medical device" in README


def test_the_results_page_is_made_from_the_result_files() -> None:
    from certdicom import load_bundle
    from certdicom.research.evaluation.results import read_results, results_page

    contents, reproductions = read_results(ROOT / "docs" / "results")
    assert (ROOT / "docs" / "results.md").read_text(encoding="utf-8") == results_page(contents, reproductions)
    assert {content["bundle"]["sha256"] for content in contents} == {load_bundle().sha256}, "figures of another bundle"
