"""Two tiny bundles, and a data set of tiny drawn films."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.imaging.synthetic import chest_phantom
from certdicom.models.bundle import Bundle
from tests.tiny import write_tiny_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture(scope="session")
def sibling(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Another segmenter behind the same denoiser."""
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "sibling", seed=5)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four drawn films of 32 × 32 of two patients; the last has no heart mask."""
    folder = tmp_path_factory.mktemp("data") / "drawn"
    rows = ["id,split,patient"]
    for index in range(4):
        phantom = chest_phantom(32, 32, seed=index)
        pixels = {"images": (phantom.density.clip(0, 1) * 255).astype(np.uint8), "masks/lungs": phantom.masks["lungs"]}
        if index < 3:
            pixels["masks/heart"] = phantom.masks["heart"]
        for place, plane in pixels.items():
            (folder / place).mkdir(parents=True, exist_ok=True)
            Image.fromarray(plane).save(folder / place / f"F{index}.png")
        rows.append(f"F{index},val,p{index // 2}")
    (folder / "split.csv").write_text("\n".join(rows) + "\n")
    return folder
