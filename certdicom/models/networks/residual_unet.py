"""MONAI's U-Net with residual units."""

from __future__ import annotations

import torch
from monai.networks.nets import UNet
from torch import Tensor, nn


class ResidualUNet(nn.Module):
    """U-Net with residual units and instance norm (Kerfoot et al., STACOM 2018), as MONAI builds it.

    (B, channels, G, G) images in [0, 1] → (B, structures, G, G) logits, one sigmoid per structure. `features` are the channels of
    each level and `strides` the steps between them; the first stride is the step from the image to the first level.
    """

    memory_format = torch.contiguous_format
    """PyTorch's instance norm on CPUs copies every feature map back and forth in channels-last memory."""

    def __init__(self, *, channels: int, structures: int, features: list[int], strides: list[int], residual_units: int) -> None:
        super().__init__()
        self.net = UNet(
            spatial_dims=2,
            in_channels=channels,
            out_channels=structures,
            channels=tuple(features),
            strides=tuple(strides),
            num_res_units=residual_units,
            norm="instance",
        )

    def forward(self, image: Tensor) -> Tensor:
        return self.net(image.contiguous())  # a slice of a batch may be in channels-last memory
