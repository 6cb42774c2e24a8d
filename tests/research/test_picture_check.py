"""The picture check over folders: synthetic chest films pass, noise and flat pictures do not, and what is no picture is told apart."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import certify_grids, select_grid
from certdicom.errors import UsageError
from certdicom.imaging.synthetic import synthetic_film, write_film
from certdicom.models.backends.openvino import OpenVINOBackend
from certdicom.models.bundle import load_bundle
from certdicom.research.no_chest import ALTERED, DRAWN
from certdicom.research.picture_check import PictureCheck, files_in
from tests.tiny import write_tiny_bundle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("pictures")
    (place / "inside").mkdir()
    write_film(synthetic_film(rows=320, columns=320)[0], place / "inside" / "film.dcm")
    write_film(synthetic_film(view_position="LL")[0], place / "lateral.dcm")
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 255, (300, 300)).astype(np.uint8)).save(place / "noise.png")
    (place / "readme.txt").write_text("pictures")
    (place / ".hidden").write_text("nothing")
    return place


def test_the_script_tells_what_is_refused_and_shows_it(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "picture_check"), str(folder), "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "the picture check refuses 1 of 2 images (50.00%)" in done.stdout
    assert "noise.png: the picture does not look like a frontal chest film" in done.stdout
    with (tmp_path / "verdicts.csv").open(newline="") as stream:
        outcomes = {Path(row["file"]).name: row["outcome"] for row in csv.DictReader(stream)}
    assert outcomes == {"film.dcm": "accepted", "lateral.dcm": "header", "noise.png": "picture", "readme.txt": "no image"}
    with Image.open(tmp_path / "wrong.png") as sheet:
        assert sheet.size == (6 * 256, 300)


def test_what_is_no_chest_is_drawn_altered_and_refused(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "picture_check"), str(folder / "inside"), "--no-chest", "1", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    table = {
        cells[1]: int(cells[3]) for line in done.stdout.splitlines()[2:] if len(cells := [cell.strip() for cell in line.split("|")]) > 3
    }
    assert set(table) == {*DRAWN, *ALTERED}
    for kind in ("hand", "leg or knee", "skull", "white noise", "ramp", "test pattern", "left half of a chest"):
        assert table[kind] == 1, kind


@pytest.mark.parametrize("kind", DRAWN)
def test_a_drawing_is_a_picture_and_the_same_every_time(kind: str) -> None:
    first, again, other = (DRAWN[kind](np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.shape == (256, 256)
    assert (first.min() >= 0) & (first.max() <= 1)
    assert first.std() > 0.02


def test_hidden_files_are_left_out(folder: Path) -> None:
    assert [path.name for path in files_in([folder, folder / "noise.png"])] == [
        "film.dcm", "lateral.dcm", "noise.png", "readme.txt", "noise.png",
    ]  # fmt: skip


def test_a_bundle_without_anatomy_has_no_check(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "tiny")
    with pytest.raises(UsageError, match="judges no picture"):
        PictureCheck(bundle, OpenVINOBackend(), SmoothingParameters())


def test_it_selects_what_certifying_selects() -> None:
    bundle, parameters = load_bundle(), SmoothingParameters(n0=3, n=75)
    segmenter = OpenVINOBackend().base_segmenter(bundle, sigma=parameters.sigma)
    u = np.random.default_rng(1).random((1, *bundle.shape))
    ((result,),) = certify_grids([u], [segmenter], [parameters], seeds=[b"one"], batch_size=10)
    selected = select_grid(u, segmenter, parameters, seed=b"one", batch_size=2)
    assert np.array_equal(selected, result.selected)
    assert selected.any()
