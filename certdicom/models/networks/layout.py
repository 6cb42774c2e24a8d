"""The order in which a network's feature maps lie in memory, and normalisation that keeps it.

On GPUs PyTorch normalises groups of channels, and instances, channels first, and convolutions want channels last, so that every norm costs
two copies of its feature map.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Layout = Literal["as built", "channels-first", "channels-last"]
"""Channels outermost or innermost in each image; "as built" is what suits processors, network by network (`build_network`)."""

_FORMATS = {"channels-first": torch.contiguous_format, "channels-last": torch.channels_last}


class GroupNorm(nn.GroupNorm):
    """`nn.GroupNorm` of the same weights that neither copies channels-last feature maps nor changes their order.

    Means and variances are summed in float64, and each value is scaled and shifted in float32, whatever the precision of the images.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 3 or x.is_contiguous():
            return super().forward(x)
        pixels, of_group = list(range(2, x.ndim)), (-1, self.num_groups, self.num_channels // self.num_groups)
        mean = x.mean(pixels, dtype=torch.float64).view(of_group).mean(-1, keepdim=True)
        squares = torch.linalg.vector_norm(x, dim=pixels, dtype=torch.float64).square().view(of_group).mean(-1, keepdim=True)
        variance = torch.addcmul(squares / x[0, 0].numel(), mean, mean, value=-1)
        mean, factor = (
            values.float().expand(-1, -1, of_group[-1]).reshape(x.shape[:2]) for values in (mean, torch.rsqrt(variance + self.eps))
        )
        if self.affine:  # no view of a weight, which the compiler refuses in inference mode
            factor = factor * self.weight
            shift = torch.addcmul(self.bias, mean, factor, value=-1)
        else:
            shift = -mean * factor
        of_channel = (*x.shape[:2], *(1 for _ in pixels))
        scaled = shift.reshape(of_channel), x, factor.reshape(of_channel)
        if torch.compiler.is_compiling():  # which fuses both steps, and refuses `out` in this layout
            return torch.addcmul(*scaled).to(x.dtype)
        return torch.addcmul(*scaled, out=torch.empty_like(x))


def laid_out(network: nn.Module, layout: Layout) -> nn.Module:
    """`network`, changed in place, with weights and feature maps in this order."""
    if layout == "as built":
        return network
    memory_format = _FORMATS[layout]
    for module in network.modules():
        if hasattr(module, "memory_format"):
            module.memory_format = memory_format  # type: ignore[assignment]  # which is no parameter
        for name, child in module.named_children():
            if layout == "channels-last":
                setattr(module, name, _keeping_layout(child))
    return network.to(memory_format=memory_format)  # type: ignore[call-overload]  # missing from torch's stubs


def _keeping_layout(module: nn.Module) -> nn.Module:
    """A `GroupNorm` in the place of PyTorch's, or of an instance norm, whose groups have one channel each; any other module itself."""
    if type(module) is nn.GroupNorm:
        own = GroupNorm(module.num_groups, module.num_channels, eps=module.eps, affine=module.affine)
    elif type(module) is nn.InstanceNorm2d and not module.track_running_stats:
        own = GroupNorm(module.num_features, module.num_features, eps=module.eps, affine=module.affine)
    else:
        return module
    own.weight, own.bias = module.weight, module.bias
    return own.train(module.training)
