"""Weights lie on disk in half precision and are computed with in single precision or less; whole numbers stay what they are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def for_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in float16 on the CPU, contiguous, as safetensors wants it; counters and other whole numbers unchanged."""
    return {name: _as(value.detach().cpu(), torch.float16).contiguous() for name, value in state.items()}


def from_disk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in float32; counters and other whole numbers unchanged."""
    return {name: _as(value, torch.float32) for name, value in state.items()}


def _as(value: Tensor, dtype: torch.dtype) -> Tensor:
    return value.to(dtype) if value.is_floating_point() else value
