"""The words of a bundle's description: methods, activations, formats of networks and their files. No PyTorch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, Final, Literal

SEGMENTER, DENOISER = "segmenter", "denoiser"

Method = Literal["one-shot", "multi-step", "direct", "segcertify"]
"""The four ways to a smoothed model: a diffusion model called once, or step by step; one denoiser per noise level; none at all."""

Activation = Literal["sigmoid", "softmax"]
"""Structures may overlap, or a pixel belongs to at most one."""

Prediction = Literal["epsilon", "sample", "v_prediction"]

TORCH_EXPORT: Final = "torch.export"
"""The format that holds a graph with its arithmetic fixed."""

FORMATS: Final = (TORCH_EXPORT, "monai-bundle", "diffusers")
"""Formats of networks that certdicom does not build itself."""


@dataclass(frozen=True)
class Denoising:
    """How a bundle denoises.

    `steps`, `eta`: of multi-step denoising, see `MultiStepDenoiser`; `prediction`: what the diffusion model predicts; `factor`: how
    many times coarser the denoiser's grid is than the bundle's, in each direction.
    """

    method: Method = "one-shot"
    steps: int | None = None
    eta: float = 1.0
    prediction: Prediction = "epsilon"
    factor: int = 1


def network_files(role: str, description: Mapping[str, Any]) -> tuple[str, ...]:
    """The files of a network, relative to the bundle's folder, forward slashes. ValueError for one outside of it."""
    form = description.get("format")
    if form is None:
        files = [str(description.get("file", f"{role}.safetensors"))]
    elif form == TORCH_EXPORT:
        files = [str(description["file"])]
    elif form == "monai-bundle":
        folder = PurePosixPath(str(description.get("folder", ".")))
        names = (description.get("config", "configs/inference.json"), description.get("weights", "models/model.pt"))
        files = [str(folder / str(name)) for name in names]
    elif form == "diffusers":
        folder = PurePosixPath(str(description.get("folder", role)))
        files = [str(folder / "config.json"), str(folder / "diffusion_pytorch_model.safetensors")]
        files += [str(description["scheduler"])] if "scheduler" in description else []
    elif form == "torchscript":
        raise ValueError(
            f"the {role} is a TorchScript archive, which PyTorch has deprecated and certdicom no longer reads: "
            'export the network with torch.export.export and torch.export.save to a .pt2 file, and give {"format": "torch.export"}'
        )
    else:
        raise ValueError(f"unknown network format {form!r}: use {', '.join(FORMATS)}, or none for a network of certdicom's own")
    for file in files:
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{role} names {file!r}, which is not inside the bundle's folder")
    return tuple(files)


def program_file(role: str) -> str:
    """The name of the role's exported program (`models.program`)."""
    return f"{role}.program.zip"
