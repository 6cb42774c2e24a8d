"""What travels to a machine with a GPU is complete, and its one script runs there: here, with the processor in the GPU's place."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from certdicom.research.training.data import load_films
from tests.tiny import write_tiny_bundle

BENCHMARK = Path(__file__).resolve().parent.parent / "benchmarks" / "gpu"


def write_films(folder: Path) -> Path:
    """Two sets of three films, the lungs of all and the heart of the first drawn."""
    folder.mkdir()
    for part in ("train", "val"):
        with tarfile.open(folder / f"made_{part}.tar", "w") as tar:
            for name in "abc":
                stream = io.BytesIO()
                Image.fromarray(np.random.default_rng(ord(name)).integers(0, 256, (256, 256), np.uint8)).save(stream, "webp", lossless=True)
                entry = tarfile.TarInfo(f"{name}.webp")
                entry.size = stream.tell()
                stream.seek(0)
                tar.addfile(entry, stream)
        masks = np.zeros((3, 3, 256, 256), bool)
        masks[:, :2, 64:128, 64:192] = True
        known = np.array([[1, 1, 0], [1, 0, 0], [0.5, 0, 0]])
        np.savez(folder / f"made_{part}.npz", names=np.array(list("abc")), masks=np.packbits(masks, axis=-1), known=known)
    return folder


def packed(folder: Path, *words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, BENCHMARK / "pack", folder, "--no-wheels", *words]
    return subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def test_a_pack_holds_package_films_and_script_and_its_films_can_be_trained_on(tmp_path: Path) -> None:
    films, pack = write_films(tmp_path / "films"), tmp_path / "pack"
    for _ in range(2):  # the second replaces the first
        done = packed(pack, "--films", films)
        assert done.returncode == 0, done.stderr
    assert {"run", "measure.py", "films.py", "certdicom", "films"} == {path.name for path in pack.iterdir()}
    assert not list(pack.rglob("__pycache__"))
    assert module(pack / "films.py").unpack(pack / "films", tmp_path / "data") == 6
    found = load_films(tmp_path / "data", "train", grid=256)
    assert found.names == ("made_train-a", "made_train-b", "made_train-c")
    assert found.known.tolist() == [[1, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert found.masks[0, 0].sum() == 64 * 128
    expected = np.random.default_rng(ord("a")).integers(0, 256, (256, 256), np.uint8) / 255
    np.testing.assert_allclose(found.images[0, 0].numpy(), expected, atol=1e-6)


def test_a_folder_that_is_no_pack_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("kept")
    done = packed(tmp_path)
    assert done.returncode == 1
    assert "name another folder" in done.stderr
    assert (tmp_path / "mine.txt").read_text() == "kept"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_script_measures_every_part_on_a_processor(tmp_path: Path) -> None:
    pack, out = tmp_path / "pack", tmp_path / "out"
    assert packed(pack, "--films", write_films(tmp_path / "films")).returncode == 0
    bundle = write_tiny_bundle(tmp_path / "tiny")
    options = {
        "--bundle": bundle.folder,
        "--films": 2,
        "--n": 67,
        "--values": 500_000,
        "--side": 256,
        "--train-seconds": 5,
        "--minutes": 25,
    }
    words = ["--device", "cpu", "--no-compile", *(str(word) for pair in options.items() for word in pair)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, str(pack / "run"), "--out", str(out), *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((out / "results.json").read_text())
    assert list(found) == ["machine", "draws", "correctness", "speed", "dicom", "adm", "training"]
    assert found["draws"]["differing"] == 0
    assert found["correctness"]["votes_that_repeat_otherwise"] == 0
    assert found["correctness"]["certified_opposite_of_processor"] == 0
    assert 0 <= found["correctness"]["flips_bfloat16"] < 0.1
    assert found["speed"]["fastest"].startswith("float32, 11 images a call")
    assert found["training"]["steps"] > 0
    assert {"log.txt", "learning.csv", "segmenter.safetensors"} <= {path.name for path in (out / "training").iterdir()}
