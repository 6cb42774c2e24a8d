# ruff: noqa: C901, PLR0915  # written down in one piece, as the original is
"""OpenAI's ADM U-Net written down once more, from its definition alone: a functional forward pass over its own names of the weights.

Nothing of diffusers or of certdicom is used, so that an error in the conversion cannot be made twice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Flags:
    image_size: int
    num_channels: int
    num_res_blocks: int
    channel_mult: tuple[float, ...]
    attention_resolutions: tuple[int, ...]
    num_heads: int = 4
    num_head_channels: int | None = None
    use_scale_shift_norm: bool = True
    resblock_updown: bool = True
    use_new_attention_order: bool = False
    learn_sigma: bool = True

    def attends(self, level: int) -> bool:
        return self.image_size // 2**level in self.attention_resolutions

    def width(self, level: int) -> int:
        return int(self.channel_mult[level] * self.num_channels)

    def heads(self, channels: int) -> int:
        return channels // self.num_head_channels if self.num_head_channels else self.num_heads


def shapes(flags: Flags) -> dict[str, tuple[int, ...]]:
    """Every weight of the network, by OpenAI's names."""
    found: dict[str, tuple[int, ...]] = {}
    embedding = 4 * flags.num_channels

    def layer(name: str, *shape: int) -> None:
        found[f"{name}.weight"] = shape
        found[f"{name}.bias"] = shape[:1]

    def residual(name: str, before: int, after: int) -> None:
        layer(f"{name}.in_layers.0", before)
        layer(f"{name}.in_layers.2", after, before, 3, 3)
        layer(f"{name}.emb_layers.1", after * (2 if flags.use_scale_shift_norm else 1), embedding)
        layer(f"{name}.out_layers.0", after)
        layer(f"{name}.out_layers.3", after, after, 3, 3)
        if before != after:
            layer(f"{name}.skip_connection", after, before, 1, 1)

    def attention(name: str, channels: int) -> None:
        layer(f"{name}.norm", channels)
        layer(f"{name}.qkv", 3 * channels, channels, 1)
        layer(f"{name}.proj_out", channels, channels, 1)

    layer("time_embed.0", embedding, flags.num_channels)
    layer("time_embed.2", embedding, embedding)
    channels = flags.width(0)
    layer("input_blocks.0.0", channels, 3, 3, 3)
    skipped, number, levels = [channels], 1, len(flags.channel_mult)
    for level in range(levels):
        for _ in range(flags.num_res_blocks):
            residual(f"input_blocks.{number}.0", channels, flags.width(level))
            channels = flags.width(level)
            if flags.attends(level):
                attention(f"input_blocks.{number}.1", channels)
            skipped.append(channels)
            number += 1
        if level < levels - 1:
            if flags.resblock_updown:
                residual(f"input_blocks.{number}.0", channels, channels)
            else:
                layer(f"input_blocks.{number}.0.op", channels, channels, 3, 3)
            skipped.append(channels)
            number += 1
    residual("middle_block.0", channels, channels)
    attention("middle_block.1", channels)
    residual("middle_block.2", channels, channels)
    number = 0
    for level in reversed(range(levels)):
        for block in range(flags.num_res_blocks + 1):
            residual(f"output_blocks.{number}.0", channels + skipped.pop(), flags.width(level))
            channels, place = flags.width(level), 1
            if flags.attends(level):
                attention(f"output_blocks.{number}.1", channels)
                place = 2
            if level and block == flags.num_res_blocks:
                if flags.resblock_updown:
                    residual(f"output_blocks.{number}.{place}", channels, channels)
                else:
                    layer(f"output_blocks.{number}.{place}.conv", channels, channels, 3, 3)
            number += 1
    layer("out.0", channels)
    layer("out.2", 6 if flags.learn_sigma else 3, channels, 3, 3)
    return found


def forward(w: dict[str, Tensor], flags: Flags, x: Tensor, t: Tensor) -> Tensor:
    """The whole output, variances included."""

    def conv(name: str, h: Tensor, **options: int) -> Tensor:
        return functional.conv2d(h, w[f"{name}.weight"], w[f"{name}.bias"], **options)

    def norm(name: str, h: Tensor) -> Tensor:
        return functional.group_norm(h, 32, w[f"{name}.weight"], w[f"{name}.bias"], eps=1e-5)

    def residual(name: str, h: Tensor, resample=None) -> Tensor:
        inner = functional.silu(norm(f"{name}.in_layers.0", h))
        if resample is not None:
            inner, h = resample(inner), resample(h)
        inner = conv(f"{name}.in_layers.2", inner, padding=1)
        emb = functional.linear(functional.silu(embedded), w[f"{name}.emb_layers.1.weight"], w[f"{name}.emb_layers.1.bias"])[
            ..., None, None
        ]
        if flags.use_scale_shift_norm:
            scale, shift = emb.chunk(2, dim=1)
            inner = norm(f"{name}.out_layers.0", inner) * (1 + scale) + shift
        else:
            inner = norm(f"{name}.out_layers.0", inner + emb)
        inner = conv(f"{name}.out_layers.3", functional.silu(inner), padding=1)
        if f"{name}.skip_connection.weight" in w:
            h = conv(f"{name}.skip_connection", h)
        return h + inner

    def attention(name: str, h: Tensor) -> Tensor:
        batch, channels, rows, columns = h.shape
        heads = flags.heads(channels)
        size = channels // heads
        flat = functional.group_norm(h.reshape(batch, channels, -1), 32, w[f"{name}.norm.weight"], w[f"{name}.norm.bias"], eps=1e-5)
        qkv = functional.conv1d(flat, w[f"{name}.qkv.weight"], w[f"{name}.qkv.bias"])
        outputs = []
        for head in range(heads):
            if flags.use_new_attention_order:
                q, k, v = (qkv[:, part * channels + head * size : part * channels + (head + 1) * size] for part in range(3))
            else:
                q, k, v = (qkv[:, (3 * head + part) * size : (3 * head + part + 1) * size] for part in range(3))
            weights = torch.softmax(q.transpose(1, 2) @ k / math.sqrt(size), dim=-1)
            outputs.append(v @ weights.transpose(1, 2))
        projected = functional.conv1d(torch.cat(outputs, dim=1), w[f"{name}.proj_out.weight"], w[f"{name}.proj_out.bias"])
        return h + projected.reshape(batch, channels, rows, columns)

    def halve(h: Tensor) -> Tensor:
        return functional.avg_pool2d(h, 2)

    def double(h: Tensor) -> Tensor:
        return h.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)

    half = flags.num_channels // 2
    frequencies = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float64) / half)
    angles = t.double()[:, None] * frequencies
    embedded = torch.cat([angles.cos(), angles.sin()], dim=1)
    embedded = functional.silu(functional.linear(embedded, w["time_embed.0.weight"], w["time_embed.0.bias"]))
    embedded = functional.linear(embedded, w["time_embed.2.weight"], w["time_embed.2.bias"])

    h = conv("input_blocks.0.0", x, padding=1)
    skipped, number, levels = [h], 1, len(flags.channel_mult)
    for level in range(levels):
        for _ in range(flags.num_res_blocks):
            h = residual(f"input_blocks.{number}.0", h)
            if flags.attends(level):
                h = attention(f"input_blocks.{number}.1", h)
            skipped.append(h)
            number += 1
        if level < levels - 1:
            if flags.resblock_updown:
                h = residual(f"input_blocks.{number}.0", h, halve)
            else:
                h = conv(f"input_blocks.{number}.0.op", h, stride=2, padding=1)
            skipped.append(h)
            number += 1
    h = residual("middle_block.0", h)
    h = attention("middle_block.1", h)
    h = residual("middle_block.2", h)
    number = 0
    for level in reversed(range(levels)):
        for block in range(flags.num_res_blocks + 1):
            h = residual(f"output_blocks.{number}.0", torch.cat([h, skipped.pop()], dim=1))
            place = 1
            if flags.attends(level):
                h = attention(f"output_blocks.{number}.1", h)
                place = 2
            if level and block == flags.num_res_blocks:
                if flags.resblock_updown:
                    h = residual(f"output_blocks.{number}.{place}", h, double)
                else:
                    h = conv(f"output_blocks.{number}.{place}.conv", double(h), padding=1)
            number += 1
    return conv("out.2", functional.silu(norm("out.0", h)), padding=1)
