"""Tiny untrained bundles, and a data set of tiny drawn films: enough to run everything but the anatomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from certdicom.imaging.synthetic import chest_phantom
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.models.networks import build_network
from certdicom.training.bundle import write_bundle

CODES = {
    "lungs": ("39607008", "SCT", "Lung"),
    "heart": ("80891009", "SCT", "Heart"),
    "clavicles": ("51299004", "SCT", "Clavicle"),
    "polyp": ("41329004", "SCT", "Polyp"),
}
DENOISER = {
    "architecture": "PatchDenoiser",
    "channels": 1,
    "patch": 2,
    "block_out_channels": [8, 8],
    "layers_per_block": 1,
    "norm_num_groups": 4,
}


def write_tiny_bundle(
    folder: Path,
    *,
    grid: int = 16,
    labels=("lungs", "heart"),
    architecture: str = "ResidualUNet",
    seed: int = 0,
    method: str = "one-shot",
    activation: str = "sigmoid",
) -> Bundle:
    """A bundle of untrained networks; the denoiser does not depend on `seed`."""
    networks = {
        "ResidualUNet": {"architecture": "ResidualUNet", "features": [4, 8], "strides": [2], "residual_units": 1},
        "UNet": {"architecture": "UNet", "width": 4, "depth": 2, "padding": "zero"},
    }
    segmenter = {**networks[architecture], "channels": 1, "structures": len(labels) + (activation == "softmax")}
    direct = {**networks["ResidualUNet"], "channels": 1, "structures": 1}
    denoisers = {"segcertify": {}, "direct": {"denoiser@0.1": direct}}.get(method, {"denoiser": DENOISER})
    torch.manual_seed(1)
    built = {role: build_network(description).eval() for role, description in denoisers.items()}
    torch.manual_seed(seed)
    description = {
        "name": folder.name,
        "summary": "untrained",
        "grid": grid,
        "channels": 1,
        "structures": [{"label": label, "code": CODES[label], "rgb": (86, 180, 233)} for label in labels],
        "schedule": {"beta_start": 1e-4, "beta_end": 2e-2, "steps": 1000},
        "sigma_range": (0.001, 1.0),
        "activation": activation,
        "denoising": {"method": method, **({"steps": 2} if method == "multi-step" else {})},
        "networks": {"segmenter": segmenter, **denoisers},
    }
    write_bundle(folder, description=description, networks={"segmenter": build_network(segmenter).eval(), **built})
    return load_bundle(folder)


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
