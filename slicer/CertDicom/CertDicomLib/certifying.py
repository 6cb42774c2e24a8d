"""certdicom as a program of its own: the command, its environment, its progress and its end. The standard library suffices."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

SEGMENTATION, RADIUS_MAP, REPORT = "seg.dcm", "radius.dcm", "report.json"
"""Names of the files in the folder of results."""

_END_S = 10.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_DRAWS = re.compile(r"(\d+)/(\d+) left\b")


@dataclass(frozen=True)
class Request:
    """What is to be certified, and how. `program`: the command certdicom; `bundle`: a name or a folder, empty for the default one;
    `site_key`: the file with the secret that makes a run repeatable, None for draws of the operating system's.
    """

    program: str
    film: Path
    folder: Path
    sigma: float = 0.25
    n: int = 100
    bundle: str = ""
    per_structure: bool = False
    accept_any: bool = False
    site_key: Path | None = None


def command(request: Request) -> list[str]:
    """The command line for a request; SEG, radius map and report go to its folder. ValueError where no program is named."""
    if not request.program.strip():
        raise ValueError("name the program certdicom: in its installation it is .venv/bin/certdicom")
    words = [request.program, "certify", str(request.film.absolute()), "-o", str(request.folder / SEGMENTATION)]
    words += ["--radius-map", str(request.folder / RADIUS_MAP), "--report", str(request.folder / REPORT)]
    words += ["--sigma", f"{request.sigma:g}", "--n", str(request.n), "--abstain", "per-structure" if request.per_structure else "union"]
    if request.bundle.strip():
        words += ["--bundle", request.bundle.strip()]
    if request.site_key is not None:
        words += ["--site-key", str(request.site_key)]
    if request.accept_any:
        words.append("--accept-any")
    return words


def clean_environment(environment: Mapping[str, str], *, slicer_home: str) -> dict[str, str]:
    """`environment` without what leads Slicer's own Python and libraries, and would mislead another: every path below `slicer_home`."""
    home = Path(slicer_home)
    kept = {}
    for name, value in environment.items():
        parts = value.split(os.pathsep)
        foreign = [part for part in parts if part and (Path(part) == home or home in Path(part).parents)]
        if foreign:
            value = os.pathsep.join(part for part in parts if part not in foreign)  # noqa: PLW2901
        if name != "PYTHONNOUSERSITE" and not (foreign and not value.strip(os.pathsep)):
            kept[name] = value
    return kept


def find_program(environment: Mapping[str, str]) -> str:
    """Where the command certdicom is installed; empty where PATH does not lead to it."""
    return shutil.which("certdicom", path=environment.get("PATH", "")) or ""


def draws_in(text: str) -> tuple[int, int] | None:
    """(done, of how many): the last count of draws in what certdicom's progress bar wrote."""
    found = _DRAWS.findall(_ESCAPES.sub("", text))
    return (int(found[-1][0]), int(found[-1][1])) if found else None


class Run:
    """A running certdicom; `progress` and `poll` may be asked at any time and wait for nothing.

    OSError when the program cannot be started.
    """

    def __init__(self, words: list[str], environment: Mapping[str, str]) -> None:
        # The bar moves in terminals alone.
        shown = {**environment, "FORCE_COLOR": "1", "TERM": "xterm", "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}
        self._process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=shown, start_new_session=True
        )
        self._said = ""
        self._cancelled = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        with self._process.stderr as stream:
            while chunk := stream.read1(4096):
                self._said = (self._said + chunk.decode(errors="replace"))[-20_000:]

    @property
    def progress(self) -> tuple[int, int] | None:
        """(draws done, of how many); None before the first."""
        return draws_in(self._said)

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    @property
    def problem(self) -> str:
        """Why it ended without a result, in one line."""
        lines = [line.strip() for line in re.split(r"[\r\n]+", _ESCAPES.sub("", self._said))]
        told = [line for line in lines if line.startswith("certdicom: ")] or [line for line in lines if line]
        return told[-1] if told else f"certdicom ended with exit code {self._process.returncode} and said nothing"

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        code = self._process.poll()
        if code is not None:
            self._reader.join(timeout=_END_S)
        return code

    def cancel(self) -> None:
        """End it, in ten seconds at the latest; no file is left half-written."""
        self._cancelled = True
        self._process.terminate()
        try:
            self._process.wait(timeout=_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def read_report(path: Path) -> dict:
    """The JSON report. ValueError for one that this module does not know."""
    report = json.loads(path.read_bytes())
    version = str(report.get("schema_version", ""))
    if version.partition(".")[0] != "1":
        raise ValueError(f"{path.name} has schema version {version or 'none'}; this module reads version 1")
    return report
