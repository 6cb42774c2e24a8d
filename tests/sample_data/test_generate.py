"""The command writes films that certdicom reads, and masks that fit them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import ENCODINGS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("sample") / "films"
    command = [sys.executable, "-m", "sample_data.generate", "--out", str(out), "--rows", "160", "--columns", "128"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert str(out) in done.stdout
    return out


def test_every_film_is_read(folder):
    films = sorted(folder.glob("*.dcm"))
    assert {f"encoding-{name}" for name in ENCODINGS} <= {path.stem for path in films}
    for path in films:
        film = read_radiograph(path)
        assert (film.rows, film.columns) == (160, 128), path.name


def test_the_masks_fit_the_films(folder):
    film = read_radiograph(folder / "dx.dcm")
    shown = film.rendering.display(film.stored_values)
    masks = {path.stem: np.asarray(Image.open(path)) > 127 for path in folder.glob("mask-*.png")}
    assert set(masks) == {"mask-lungs", "mask-heart", "mask-clavicles"}
    assert shown[masks["mask-lungs"]].mean() + 0.2 < shown[masks["mask-heart"]].mean()


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    command = [sys.executable, "-m", "sample_data.generate", "--out", str(tmp_path / "file" / "below")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1
