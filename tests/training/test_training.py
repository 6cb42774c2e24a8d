"""Training on a few drawn films: the loops run, learn, write, and the data are read as they lie on disk."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from certdicom.errors import UsageError
from certdicom.imaging.synthetic import chest_phantom
from certdicom.training import denoiser as denoiser_module
from certdicom.training import joint as joint_module
from certdicom.training import segmenter as segmenter_module
from certdicom.training.augmentation import augment
from certdicom.training.data import join, load_films
from certdicom.training.loop import Budget
from certdicom.training.segmenter import segmentation_loss

SMALL_SEGMENTER = {**segmenter_module.SEGMENTER, "features": [8, 16, 16], "strides": [2, 2]}
SMALL_DENOISER = {**denoiser_module.DENOISER, "block_out_channels": [8, 8], "norm_num_groups": 4}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn films of 128 × 128, three with every mask in the layout of the real sets."""
    folder = tmp_path_factory.mktemp("drawn")
    parts = ("left_lung", "right_lung", "heart", "left_clavicle", "right_clavicle")
    for place in ("images", *(f"masks/{part}" for part in parts)):
        (folder / place).mkdir(parents=True)
    with (folder / "split.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(("id", "split"))
        for index in range(4):
            phantom = chest_phantom(128, 128, seed=index)
            rows.writerow((f"F{index}", "val" if index == 3 else "train"))
            Image.fromarray((phantom.density.clip(0, 1) * 255).astype(np.uint8)).save(folder / "images" / f"F{index}.png")
            halves = np.arange(128)[None, :] < 64
            for part in parts:
                name = {"lung": "lungs", "heart": "heart", "clavicle": "clavicles"}[part.split("_")[-1]]
                mask = phantom.masks[name] & (halves if part.startswith("right") else ~halves if part.startswith("left") else True)
                Image.fromarray(mask).save(folder / "masks" / part / f"F{index}.png")
    return folder


def test_films_are_read_with_their_sides_merged(data: Path) -> None:
    films = load_films(data, "train", grid=64)
    assert films.images.shape == (3, 1, 64, 64)
    assert films.masks.shape == (3, 3, 64, 64)
    assert films.known.tolist() == [[1, 1, 1]] * 3
    assert 0.1 < float(films.masks[:, 0].float().mean()) < 0.5
    assert len(join([films, films])) == 6


def test_a_folder_that_is_no_data_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no split.csv"):
        load_films(tmp_path, "train", grid=64)


def test_augmentation_moves_image_and_masks_together(data: Path) -> None:
    """After any warp the lungs are still darker than the heart."""
    torch.manual_seed(0)
    films = load_films(data, "train", grid=64)
    from certdicom.training.augmentation import warp

    for _ in range(8):
        image, masks = warp(films.images, films.masks)
        lung, heart = masks[:, 0].bool(), masks[:, 1].bool()
        for index in range(3):
            assert image[index, 0][lung[index]].mean() < image[index, 0][heart[index]].mean()
    image, masks = augment(films.images, films.masks)
    assert float(image.min()) >= 0
    assert float(image.max()) <= 1
    assert set(masks.unique().tolist()) <= {0.0, 1.0}


def test_structures_without_masks_do_not_count_in_the_loss() -> None:
    logits, masks = torch.randn(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    known = torch.tensor([[1.0, 1, 0], [1, 1, 0]])
    changed = logits.clone()
    changed[:, 2] += 5
    assert torch.equal(segmentation_loss(logits, masks, known), segmentation_loss(changed, masks, known))


def test_the_learning_rate_warms_up_and_falls_with_the_budget() -> None:
    budget = Budget(steps=1000)
    rates = []
    for step in range(1000):
        budget.step = step
        rates.append(budget.learning_rate(1.0, budget.progress))
    assert rates[0] == pytest.approx(0.01, abs=1e-3)
    assert np.argmax(rates) == 99
    assert rates[-1] < 0.02


_WORKER = """
import torch
from certdicom.training.loop import Workers
workers = Workers()
network = torch.nn.Linear(2, 1, bias=False)
network.weight.data.fill_(1.0)
(network(torch.full((1, 2), 1.0 + 2.0 * workers.rank))).sum().backward()
workers.average_gradients([network])
print(workers.agree(10.0 * (1 + workers.rank)), network.weight.grad.tolist())
torch.distributed.destroy_process_group()
"""


def test_processes_share_their_gradients_and_their_decisions() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-c", _WORKER],
            env={**os.environ, "WORLD_SIZE": "2", "RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in started] == ["10.0 [[2.0, 2.0]]"] * 2


def test_the_whole_recipe_runs_and_learns(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (segmenter_module, joint_module):
        monkeypatch.setattr(module, "SEGMENTER", SMALL_SEGMENTER)
    for module in (denoiser_module, joint_module):
        monkeypatch.setattr(module, "DENOISER", SMALL_DENOISER)
    train, val = load_films(data, "train", grid=64), load_films(data, "val", grid=64)
    den, seg, both = tmp_path / "d.safetensors", tmp_path / "s.safetensors", tmp_path / "joint"
    denoiser_module.train_denoiser(train, val, weights=den, budget=Budget(30), batch=4, validate_every=10)
    segmenter_module.train_segmenter(train, {"drawn": val}, weights=seg, budget=Budget(60), batch=4, validate_every=20)
    joint_module.train_jointly(
        train,
        {"drawn": val},
        segmenter_weights=(seg, both / "s.safetensors"),
        denoiser_weights=(den, both / "d.safetensors"),
        budget=Budget(10),
        batch=4,
        noised=3,
        validate_every=10,
    )
    losses = [json.loads(line)["loss"] for line in seg.with_suffix(".jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    errors = [json.loads(line)["val_rmse"]["0.289"] for line in den.with_suffix(".jsonl").read_text().splitlines()]
    assert errors[-1] < errors[0]
    assert (both / "s.safetensors").is_file()
    assert (both / "d.safetensors").is_file()
