"""A segmenter's input and output format: how it takes images, and how what it gives becomes logits of structures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from certdicom.models.description import Activation

if TYPE_CHECKING:
    from certdicom.models import schema


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
