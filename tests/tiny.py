"""Untrained networks, so small that a whole run takes a second: enough to run everything but the anatomy."""

from __future__ import annotations

from pathlib import Path

import torch

from certdicom.models.bundle import Bundle, load_bundle
from certdicom.models.networks import build_network
from certdicom.research.training.bundle import write_bundle

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
