"""Pseudo-labels: written by a real bundle's segmenter, read as what they are, learnt from and never scored against."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from certdicom.cli.main import main
from certdicom.research.datasets.loading import load_dataset
from certdicom.research.training.data import PSEUDO_WEIGHT, load_films
from certdicom.research.training.pseudo_labels import DROPPED


@pytest.fixture
def without_clavicles(data: Path, tmp_path: Path) -> Path:
    """The drawn films, without masks of clavicles, and one of noise among them."""
    folder = tmp_path / "few"
    shutil.copytree(data, folder)
    for side in ("left", "right"):
        shutil.rmtree(folder / "masks" / f"{side}_clavicle")
    noise = np.random.default_rng(0).integers(0, 255, (128, 128), np.uint8)
    Image.fromarray(noise).save(folder / "images" / "N0.png")
    Image.fromarray(np.zeros((128, 128), bool)).save(folder / "masks" / "heart" / "N0.png")
    with (folder / "split.csv").open("a") as table:
        table.write("N0,train\n")
    return folder


def test_what_is_missing_is_labelled_and_what_is_drawn_stays(
    without_clavicles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "labelled"
    command = ["train", "pseudo-labels", "--data", str(without_clavicles), "--teacher", "cxr-gray-256", "--out", str(out)]
    assert main(command) == 0
    folder = out / "few"
    told = capsys.readouterr().out
    with (folder / DROPPED).open() as table:
        dropped = {row["id"]: row["why"] for row in csv.DictReader(table)}
    assert "N0" in dropped
    assert "cannot be measured" in dropped["N0"] or "chest films" in dropped["N0"]
    films = load_films(folder, "train", grid=256)
    kept = [name for name in ("F0", "F1", "F2") if name not in dropped]
    assert films.names == tuple(kept)
    assert kept, "drawn chests are plausible"
    assert f"{len(kept)} pseudo-labels, {len(dropped)} images dropped" in told
    drawn = load_films(without_clavicles, "train", grid=256)
    for index, name in enumerate(films.names):
        source = drawn.names.index(name)
        assert films.weights[index].tolist() == [1, 1, PSEUDO_WEIGHT]
        assert films.known[index].tolist() == [True, True, False]
        assert torch.equal(films.masks[index, :2], drawn.masks[source, :2])
        torch.testing.assert_close(films.images[index], drawn.images[source], atol=2e-5, rtol=0)
        assert not films.unsure[index, :2].any()
        assert films.masks[index, 2].any()
        assert 0 < float(films.unsure[index, 2].float().mean()) < 0.1
    val = load_dataset(folder)
    assert val.parts == {"train": len(kept), "val": 1}
    assert load_films(folder, "val", grid=256).weights.tolist() == [[1, 1, 0]]
    assert main(command) != 0, "nothing is overwritten"


def test_images_alone_are_all_to_train_on_and_validate_nothing(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone, out = tmp_path / "alone", tmp_path / "labelled"
    shutil.copytree(data / "images", alone / "images")
    assert main(["train", "pseudo-labels", "--data", str(alone), "--teacher", "cxr-gray-256", "--out", str(out)]) == 0
    labelled = out / "alone"
    assert set(load_dataset(labelled).parts) == {"train"}
    network = '{"architecture": "UNet", "width": 4, "depth": 1, "padding": "zero"}'
    train = ["train", "segmenter", "--data", str(data), "--data", str(labelled), "--shares", "1", "1", "--grid", "32", "--network", network]
    assert main([*train, "--steps", "2", "--validate-every", "2", "--batch-size", "2", "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().err
    assert f"Dice {data.name} lungs clean" in told
    assert "Dice alone" not in told, "nothing is scored against pseudo-labels"


def test_a_structure_that_no_teacher_knows_is_told(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "pseudo-labels", "--data", str(data), "--teacher", "cxr-gray-256", "--structures", "ribs", "--out", str(tmp_path)]
    assert main(command) == 2
    assert "no teacher knows ribs: they know clavicles, heart, lungs" in capsys.readouterr().err
