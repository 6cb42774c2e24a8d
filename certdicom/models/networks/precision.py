"""Weights lie on disk in half precision, and are computed with in single precision or less; whole numbers stay what they are.

What a batch norm has counted, its running means and variances, stays in single precision on disk: the variances of one network may
span more than half precision does. Above 65,504 that knows infinity alone, which silences a channel without any error.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_STATISTICS = ("running_mean", "running_var")


def to_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict on the CPU, contiguous, as safetensors wants it, in float16 but for statistics and what does not fit.

    ValueError, naming the weight, for values that are not finite.
    """
    _require_finite(state)
    return {name: _narrowed(name, value.detach().cpu()).contiguous() for name, value in state.items()}


def to_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in float32; counters and other whole numbers unchanged. ValueError for values that are not finite."""
    _require_finite(state)
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def _narrowed(name: str, value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    half = value.half()
    keep = name.rpartition(".")[2] in _STATISTICS or not bool(torch.isfinite(half).all())
    return value.float() if keep else half


def _require_finite(state: Mapping[str, Tensor]) -> None:
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise ValueError(f"the weights {name} hold values that are not finite (a training that diverged wants a lower rate)")
