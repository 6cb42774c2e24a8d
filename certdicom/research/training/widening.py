"""Go on with a wider network than the one that was trained, without losing what it knows (Net2Net: Chen et al., ICLR 2016)."""

from __future__ import annotations

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
    old: Mapping[str, Tensor] = {}
    if isinstance(network, UNet) and isinstance(trained.network, UNet) and network.patch % trained.network.patch == 0:
        old = _pixels_apart(trained.network.state_dict(), network.patch // trained.network.patch)
    if not _fits(old, network.state_dict()):
        raise UsageError(
            "--network with --weights must be a U-Net like that of the weights, no level of it narrower: leave --network out to go on with "
            "the same network"
        )
    draws = torch.Generator().manual_seed(seed)
    joined = {f"up.{level}.0.weight" for level in range(network.depth)}  # these read a skipped level and the risen one, side by side
    network.load_state_dict(
        {
            name: _spread(
                old[name],
                like,
                transposed=name.startswith("rise."),
                pieces=2 if name in joined else 1,
                draws=draws,
            )
            for name, like in network.state_dict().items()
        }
    )
    return Trained(network, dict(description), trained.record)


def _pixels_apart(state: Mapping[str, Tensor], times: int) -> dict[str, Tensor]:
    """The weights of a network that reads `times` × `times` pixels where the one of `state` read their mean, and answers alike for them."""
    apart = dict(state)
    apart[_FIRST] = state[_FIRST].repeat_interleave(times**2, 1) / times**2
    for name in ("head.weight", "head.bias"):
        apart[name] = state[name].repeat_interleave(times**2, 0)
    return apart


_FIRST = "down.0.0.weight"


def _fits(old: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> bool:
    return old.keys() == new.keys() and all(
        old[name].ndim == new[name].ndim and all(o <= n for o, n in zip(old[name].shape, new[name].shape, strict=True)) for name in new
    )


def _spread(old: Tensor, like: Tensor, *, transposed: bool, pieces: int, draws: torch.Generator) -> Tensor:
    """`old`, a weight, bias or statistic, with the channels of `like`: (out, in, …), or (in, out, …) when `transposed`."""
    if not old.ndim:
        return old
    if old.ndim == 1:
        return old[_copies(len(old), len(like))]
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
