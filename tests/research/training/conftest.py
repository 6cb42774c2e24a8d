"""Drawn films to train on."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.imaging.synthetic import chest_phantom


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
