"""Go on with a wider network than the one that was trained, without losing what it knows (Net2Net: Chen et al., ICLR 2016)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from certdicom.errors import UsageError
from certdicom.models.networks import build_network
from certdicom.models.networks.unet import UNet
from certdicom.research.training.weights import Trained

_LEAST_SHARE, _MOST_SHARE = 0.5, 1.5
"""Between these, before they are made to add up to 1, lie the parts that the copies of a channel take of its weight."""


def widened(trained: Trained, description: Mapping[str, Any], *, seed: int = 0) -> Trained:
    """The U-Net of `description` with weights that make it answer as `trained` does.

    Every level's new channels are copies of its old ones. What reads a channel reads its copies in unequal parts, drawn from `seed`, so
    that they learn apart from then on. With a larger `patch`, the network answers for an image as `trained` does for the means of its
    patches. UsageError unless both are U-Nets that differ in nothing but the patch and the widths of levels, none of them narrower.
    """
    network = build_network(description)
    narrow = trained.network
    old: Mapping[str, Tensor] = {}
    if isinstance(network, UNet) and isinstance(narrow, UNet) and network.mirror == narrow.mirror and network.patch % narrow.patch == 0:
        old = _pixels_apart(narrow.state_dict(), network.patch // narrow.patch)
    new = network.state_dict()
    if not _fits(old, new):
        raise UsageError(
            "--network with --weights must be a U-Net like that of the weights, no level of it narrower: leave --network out to go on with "
            "the same network"
        )
    draws = torch.Generator().manual_seed(seed)
    network.load_state_dict({name: _spread(name, old[name], like, draws) for name, like in new.items()})
    return Trained(network, dict(description), trained.record)


def _pixels_apart(state: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    """The weights of a network that reads `times` × `times` pixels where the one of `state` read their mean, and answers alike for them."""
    apart = dict(state)
    apart[_FIRST] = state[_FIRST].repeat_interleave(times**2, 1) / times**2
    for name in ("head.weight", "head.bias"):
        apart[name] = state[name].repeat_interleave(times**2, 0)
    return apart


_FIRST = "down.0.0.weight"

_READS_TWO_LEVELS = re.compile(r"up\.\d+\.0\.weight")
"""These read the level that was skipped and the one that rises, side by side."""


def _fits(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> bool:
    """Whether weights of the same names take as many planes and give as many structures, and no more channels in between."""
    return (
        old.keys() == new.keys()
        and old[_FIRST].shape[1] == new[_FIRST].shape[1]
        and len(old["head.bias"]) == len(new["head.bias"])
        and all(before <= after for name, like in new.items() for before, after in zip(old[name].shape, like.shape, strict=True))
    )


def _spread(name: str, old: Tensor, like: Tensor, draws: torch.Generator) -> Tensor:
    """`old`, a weight, bias or statistic of a UNet, with the channels of `like`."""
    if not old.ndim:
        return old
    if old.ndim == 1:
        return old[_copies(len(old), len(like))]
    transposed = name.startswith("rise.")  # (in, out, …) instead of (out, in, …)
    pieces = 2 if _READS_TWO_LEVELS.fullmatch(name) else 1
    turned, wanted = (x.transpose(0, 1) if transposed else x for x in (old, like))
    read = _copies(turned.shape[1], wanted.shape[1], pieces=pieces)
    parts = _LEAST_SHARE + (_MOST_SHARE - _LEAST_SHARE) * torch.rand(wanted.shape[:2], generator=draws)
    sums = torch.zeros(wanted.shape[0], turned.shape[1]).index_add_(1, read, parts)
    shares = (parts / sums[:, read]).view(*wanted.shape[:2], *[1] * (old.ndim - 2))
    spread = turned[_copies(turned.shape[0], wanted.shape[0])][:, read] * shares
    return spread.transpose(0, 1) if transposed else spread


def _copies(old: int, new: int, *, pieces: int = 1) -> Tensor:
    """Which of `old` channels each of `new` ones is a copy of, over and over again within each of `pieces` equal parts."""
    before, after = old // pieces, new // pieces
    return torch.cat([piece * before + torch.arange(after) % before for piece in range(pieces)])
