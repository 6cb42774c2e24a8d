"""Mistakes are told in a line with what was meant; the shell completes; what is not installed is named with its extra."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from certdicom.cli import main as entry
from certdicom.extras import EXTRAS, extra_with

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["demoo"], "did you mean demo?"),
        (["trian", "segmenter"], "did you mean train?"),
        (["xyzzy"], "certdicom --help lists the commands"),
        (["film.dcm", "-o", "s.dcm", "--sgima", "1"], "unknown option --sgima: did you mean --sigma?"),
        (["film.dcm", "-o", "s.dcm", "--bundel=x"], "unknown option --bundel: did you mean --bundle?"),
        (["film.dcm", "-o", "s.dcm", "--geometry", "vewer"], "did you mean viewer?"),
        (["bundle", "lst"], "did you mean list?"),
        (["queue", "retry", "--al-failed"], "did you mean --all-failed?"),
        (["info"], "the following arguments are required: FILE"),
        (["queue", "ls", "--limit", "x"], "invalid int value: 'x'"),
    ],
)
def test_a_mistake_is_one_line_with_what_was_meant(capsys: pytest.CaptureFixture[str], words: list[str], meant: str) -> None:
    assert entry.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("certdicom: ")
    assert meant in printed.err


def completions(line: str) -> list[str]:
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "_ARGCOMPLETE_SHELL": "bash",
        "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout",
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", "from certdicom.cli.main import run; run()"], env=environment, capture_output=True, text=True, check=False
    )
    return [word.strip() for word in done.stdout.split("\n") if word]


@pytest.mark.parametrize(
    ("line", "among"),
    [
        ("certdicom de", "demo"),
        ("certdicom film.dcm --prev", "--preview"),
        ("certdicom certify film.dcm --bundle cxr", "cxr-gray-256"),
        ("certdicom film.dcm --bundle cxr", "cxr-gray-256"),
        ("certdicom bundle ch", "check"),
        ("certdicom queue retry --a", "--all-failed"),
    ],
)
def test_the_shell_completes(line: str, among: str) -> None:
    pytest.importorskip("argcomplete")
    assert completions(line) == [among]


def test_what_is_not_installed_is_named_with_its_extra(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "certdicom.node.queue", None)
    monkeypatch.setitem(sys.modules, "dbos", None)

    def absent(name: str, *_: object) -> object:
        raise ModuleNotFoundError(f"No module named {name!r}", name="dbos.core")

    monkeypatch.setattr(entry, "import_module", absent)
    monkeypatch.setattr(entry, "build_parser", lambda _: _Parser())
    assert entry.main(["queue", "ls"]) == 2
    assert capsys.readouterr().err == "certdicom: queue needs dbos.core, which is not installed: pip install 'certdicom[node]'\n"


class _Parser:
    def parse_args(self, words: list[str]) -> object:
        from argparse import Namespace

        return Namespace(command=words[0], debug=False)


def test_every_module_of_an_extra_is_one_that_the_extra_installs() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        required = {requirement.split(">")[0].split("[")[0].replace("-", "_").lower() for requirement in extras[extra]}
        assert {module.lower() for module in modules} <= required, extra
    assert extra_with("monai.data") == "torch"
    assert extra_with("json") is None
