"""Several segmenters as one: the mean of their logits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from certdicom.models.networks.adapter import coarsely


class Mean(nn.Module):
    """(B, channels, H, W) images in [0, 1] → (B, structures, H, W) logits, the mean over `members`.

    A member is described as a network by itself, `{"architecture": NAME, …}`, and made by `build`; its `factor` says how many times
    coarser its grid is.
    """

    memory_format = torch.preserve_format
    """Each member has its own."""

    def __init__(
        self, *, channels: int, structures: int, members: Sequence[Mapping[str, Any]], build: Callable[[Mapping[str, Any]], nn.Module]
    ) -> None:
        super().__init__()
        if not members:
            raise ValueError("a mean needs at least one member")
        self.factors = [int(member.get("factor", 1)) for member in members]
        own = [{name: value for name, value in member.items() if name != "factor"} for member in members]
        self.members = nn.ModuleList(build({"channels": channels, "structures": structures, **member}) for member in own)

    def forward(self, image: Tensor) -> Tensor:
        logits = [coarsely(member, image, factor=factor) for member, factor in zip(self.members, self.factors, strict=True)]
        return torch.stack(logits).mean(0)
