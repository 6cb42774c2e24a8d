"""What a bundle's description says beyond names: how it denoises, and its networks' input and output format. No PyTorch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from certdicom.models import schema

SEGMENTER, DENOISER = "segmenter", "denoiser"

Method = Literal["one-shot", "multi-step", "direct", "segcertify"]
"""The four ways to a smoothed model: a diffusion model called once, or step by step; one denoiser per noise level; none at all."""

Activation = Literal["sigmoid", "softmax"]
"""Structures may overlap, or a pixel belongs to at most one."""

Prediction = Literal["epsilon", "sample", "v_prediction"]

PROGRAM: Final = "torch.export"
"""The format that holds a program, with its arithmetic fixed."""

FORMATS: Final = (PROGRAM, "monai-bundle", "diffusers")
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


@dataclass(frozen=True)
class InputSpec:
    """How a segmenter takes images: `channels` (1 or 3), and (u - mean) / std of the image u in [0, 1], per channel or for all.

    `factor`: how many times coarser its grid is than the bundle's, in each direction: it gets the means of factor × factor pixels, and
    its logits are enlarged bilinearly. `mirror`: it is asked about the image and its mirror image (left to right), and the mean of both
    answers is taken, which is a little better and more stable than either.
    """

    channels: int
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    factor: int = 1
    mirror: bool = False

    @classmethod
    def of(cls, described: schema.Input, *, channels: int) -> InputSpec:
        """From `{"channels": 3, "range": [-1, 1]}` or `{"mean": [...], "std": [...]}`; `channels` are the bundle's. ValueError."""
        own = described.channels or channels
        if own != channels and 1 not in (own, channels):
            raise ValueError(f"a segmenter of {own} channels does not fit images of {channels}")
        mean, std = tuple(described.mean or (0.0,)), tuple(described.std or (1.0,))
        if described.range is not None:
            low, high = described.range
            mean, std = (-low / (high - low),), (1.0 / (high - low),)
        if len(mean) not in (1, own) or len(std) not in (1, own) or min(std) <= 0:
            raise ValueError(f"mean and std must have 1 or {own} values, std above 0")
        return cls(own, mean=mean, std=std, factor=described.factor, mirror=described.mirror)

    @property
    def plain(self) -> bool:
        """Whether images in [0, 1] go in as they are."""
        return self.mean == (0.0,) and self.std == (1.0,) and self.factor == 1 and not self.mirror


@dataclass(frozen=True)
class OutputSpec:
    """How a segmenter's output is read: `outputs` channels of "logits" or "probabilities"; per structure the channels that make it up."""

    outputs: int
    kind: Literal["logits", "probabilities"]
    members: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, described: schema.Output, *, structures: Sequence[schema.Structure], activation: Activation) -> OutputSpec:
        """From `{"channels": 4, "kind": "probabilities"}` and each structure's `"channel"`, a number or a list. ValueError.

        Without them: one logit per structure in order (sigmoid), or the background first (softmax).
        """
        first = int(activation == "softmax")
        outputs = described.channels or len(structures) + first
        members = []
        for index, structure in enumerate(structures):
            channel = index + first if structure.channel is None else structure.channel
            channels = tuple(channel) if isinstance(channel, list) else (channel,)
            if not all(0 <= one < outputs for one in channels):
                raise ValueError(f"structure {structure.label!r} is read from channel {channel!r} of {outputs}")
            members.append(channels)
        if activation == "softmax" and len({one for channels in members for one in channels}) == outputs:
            raise ValueError("softmax needs a channel that no structure is read from: the background")
        return cls(outputs, described.kind, tuple(members))

    def plain(self, activation: Activation) -> bool:
        """Whether the output is what certdicom computes with: one logit per structure, after the background's for softmax."""
        first = int(activation == "softmax")
        expected = tuple((index + first,) for index in range(len(self.members)))
        return self.kind == "logits" and self.members == expected and self.outputs == len(self.members) + first


def network_files(role: str, description: Mapping[str, Any]) -> tuple[str, ...]:
    """The files of a network, relative to the bundle's folder, forward slashes. ValueError for one outside of it."""
    form = description.get("format")
    if form is None:
        files = [str(description.get("file", f"{role}.safetensors"))]
    elif form == PROGRAM:
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
