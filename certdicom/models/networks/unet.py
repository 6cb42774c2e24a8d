"""U-Net (Ronneberger, Fischer and Brox, MICCAI 2015)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional


class UNet(nn.Module):
    """Figure 1 of the paper: (B, channels, H, W) → (B, structures, H, W) logits.

    `width`: channels of the first level (64 in the paper), doubled at each of `depth` (4) halvings; or `widths`: the channels of every
    level, which say the depth as well. `padding`: "mirror" is the
    paper's unpadded convolutions on a mirrored surround (its overlap-tile strategy; 572 pixels in for 388 out), "zero" the
    cheaper padded ones, whose sides must be whole multiples of 2**depth. `norm`: "none" as in the paper, or "batch" after each
    convolution. `dropout`: at the end of the contracting path, in training only. Weights start as in the paper, N(0, 2 / fan-in).
    `patch`: work on patch × patch pixels side by side in channels, at the arithmetic of images that are so much smaller, and give a logit
    for each pixel all the same (Shi et al., CVPR 2016); sides must then be whole multiples of `patch` as well.
    """

    def __init__(
        self,
        *,
        channels: int,
        structures: int,
        width: int = 64,
        depth: int = 4,
        widths: Sequence[int] = (),
        padding: Literal["mirror", "zero"] = "mirror",
        norm: Literal["none", "batch"] = "none",
        dropout: float = 0.5,
        patch: int = 1,
    ) -> None:
        super().__init__()
        if padding not in ("mirror", "zero") or norm not in ("none", "batch"):
            raise ValueError(f"padding must be mirror or zero and norm none or batch, not {padding!r} and {norm!r}")
        widths = list(widths) or [width * 2**level for level in range(depth + 1)]
        if len(widths) < 2 or not all(isinstance(channels, int) and channels > 0 for channels in widths):
            raise ValueError(f"widths must be the channels of two levels or more, not {widths!r}")
        self.depth = len(widths) - 1
        self.mirror = padding == "mirror"
        self.patch = patch
        pad, batch_norm = int(not self.mirror), norm == "batch"
        self.down = nn.ModuleList(
            _double(before, after, pad=pad, batch_norm=batch_norm)
            for before, after in zip([channels * patch**2, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.dropout = nn.Dropout(dropout)
        self.rise = nn.ModuleList(nn.ConvTranspose2d(before, after, 2, stride=2) for before, after in pairwise(reversed(widths)))
        self.up = nn.ModuleList(_double(2 * after, after, pad=pad, batch_norm=batch_norm) for after in reversed(widths[:-1]))
        self.head = nn.Conv2d(widths[0], structures * patch**2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]  # every one has a bias

    def forward(self, image: Tensor) -> Tensor:
        if self.patch == 1:
            return self._logits(image)
        return functional.pixel_shuffle(self._logits(functional.pixel_unshuffle(image, self.patch)), self.patch)

    def _logits(self, image: Tensor) -> Tensor:
        if not self.mirror:
            return self.contract_and_expand(image)
        rows, columns = image.shape[-2:]
        logits = self.contract_and_expand(_mirrored(image, rows=self._needed(rows), columns=self._needed(columns)))
        return _centre(logits, rows=rows, columns=columns)

    def contract_and_expand(self, x: Tensor) -> Tensor:
        """The network itself; with unpadded convolutions the result is smaller than `x`."""
        skipped = []
        for level, block in enumerate(self.down):
            x = block(self.pool(x) if level else x)
            if level >= self.depth - 1:
                x = self.dropout(x)
            skipped.append(x)
        for skip, rise, block in zip(reversed(skipped[:-1]), self.rise, self.up, strict=True):
            risen = rise(x)
            x = block(torch.cat([_centre(skip, rows=risen.shape[-2], columns=risen.shape[-1]), risen], dim=1))
        return self.head(x)

    def _needed(self, size: int) -> int:
        """The smallest side that unpadded convolutions turn into at least `size`, all halvings being even."""
        factor = 2**self.depth
        lost = 4 * (factor - 1)  # in units of the finest level, on the way up
        bottom = -(-(size + lost) // factor)
        return factor * (bottom + 4) + lost


def _double(before: int, after: int, *, pad: int, batch_norm: bool) -> nn.Sequential:
    """Two 3 × 3 convolutions, each followed by a ReLU."""
    layers: list[nn.Module] = []
    for channels in (before, after):
        layers.append(nn.Conv2d(channels, after, 3, padding=pad))
        if batch_norm:
            layers.append(nn.BatchNorm2d(after))
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _mirrored(image: Tensor, *, rows: int, columns: int) -> Tensor:
    """`image` in the middle of `rows` × `columns`, continued by mirroring at its borders as often as it takes."""
    down = _reflected(image.shape[-2], rows, image.device)
    across = _reflected(image.shape[-1], columns, image.device)
    return image.index_select(-2, down).index_select(-1, across)


def _reflected(size: int, wanted: int, device: torch.device) -> Tensor:
    """Indices 0 … size - 1 in the middle of `wanted`, reflected at both ends without repeating the border."""
    period = max(2 * (size - 1), 1)
    places = (torch.arange(wanted, device=device) - (wanted - size) // 2) % period
    return torch.minimum(places, period - places) if size > 1 else torch.zeros_like(places)


def _centre(x: Tensor, *, rows: int, columns: int) -> Tensor:
    top, left = (x.shape[-2] - rows) // 2, (x.shape[-1] - columns) // 2
    return x[..., top : top + rows, left : left + columns]
