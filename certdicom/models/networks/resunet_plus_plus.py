"""ResUNet++ (Jha et al., ISM 2019): residual units with squeeze-and-excitation, ASPP bridge, attention in the decoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from certdicom.models.networks.pointwise import StridedPointwise

SQUEEZE = 8
"""Reduction ratio of squeeze-and-excitation in the authors' network."""

RATES = (6, 12, 18)
"""Dilation of the ASPP branches; a fourth branch has none."""


class ResUNetPlusPlus(nn.Module):
    """The authors' network: (B, channels, H, W) → (B, structures, H, W) logits; sides are whole multiples of 8.

    `width`: channels of the first level (16 for the authors); the others have 2, 4, 8 and, in the bridge, 16 times as many.
    """

    def __init__(self, *, channels: int, structures: int, width: int = 16) -> None:
        super().__init__()
        if width < SQUEEZE:
            raise ValueError(f"width must be at least {SQUEEZE}, not {width}")
        first, second, third, fourth, bridge = (width * 2**level for level in range(5))
        self.stem = ResidualUnit(channels, first, stem=True)
        self.encoder = nn.ModuleList(
            ResidualUnit(before, after, stride=2) for before, after in ((first, second), (second, third), (third, fourth))
        )
        self.bridge = ASPP(fourth, bridge)
        levels = ((third, bridge, fourth), (second, fourth, third), (first, third, second))
        self.attention = nn.ModuleList(Attention(skip, below) for skip, below, _ in levels)
        self.decoder = nn.ModuleList(ResidualUnit(skip + below, after) for skip, below, after in levels)
        self.aspp = ASPP(second, first)
        self.head = nn.Conv2d(first, structures, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, image: Tensor) -> Tensor:
        skipped = [self.stem(image)]
        for unit in self.encoder:
            skipped.append(unit(skipped[-1]))
        x = self.bridge(skipped.pop())
        for attend, unit in zip(self.attention, self.decoder, strict=True):
            skip = skipped.pop()
            risen = functional.interpolate(attend(skip, x), scale_factor=2.0, mode="nearest")
            x = unit(torch.cat([risen, skip], dim=1))
        return self.head(self.aspp(x))


class ResidualUnit(nn.Module):
    """Two 3 × 3 convolutions beside a projected shortcut, then squeeze-and-excitation; the stem does not normalise its input."""

    def __init__(self, before: int, after: int, *, stride: int = 1, stem: bool = False) -> None:
        super().__init__()
        entry: list[nn.Module] = [] if stem else [nn.BatchNorm2d(before), nn.ReLU()]
        self.residual = nn.Sequential(
            *entry,
            nn.Conv2d(before, after, 3, stride=stride, padding=1),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.shortcut = nn.Sequential(StridedPointwise(before, after, stride=stride, bias=True), nn.BatchNorm2d(after))
        self.squeeze = nn.Linear(after, after // SQUEEZE, bias=False)
        self.excite = nn.Linear(after // SQUEEZE, after, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual(x) + self.shortcut(x)
        weights = torch.sigmoid(self.excite(torch.relu(self.squeeze(x.mean((-2, -1))))))
        return x * weights[..., None, None]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: parallel 3 × 3 convolutions, summed, then mixed by a 1 × 1 convolution."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=rate, dilation=rate), nn.BatchNorm2d(after)) for rate in (*RATES, 1)
        )
        self.mix = nn.Conv2d(after, after, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(torch.stack([branch(x) for branch in self.branches]).sum(0))


class Attention(nn.Module):
    """Weighs the decoder's `below` (B, below, h, w) by what the encoder saw there in `skip` (B, skip, 2h, 2w)."""

    def __init__(self, skip: int, below: int) -> None:
        super().__init__()
        self.from_skip = nn.Sequential(_activated(skip, below), nn.MaxPool2d(2))
        self.from_below = _activated(below, below)
        self.weigh = _activated(below, below)

    def forward(self, skip: Tensor, below: Tensor) -> Tensor:
        return self.weigh(self.from_skip(skip) + self.from_below(below)) * below


def _activated(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.BatchNorm2d(before), nn.ReLU(), nn.Conv2d(before, after, 3, padding=1))
