"""The networks of the shipped bundles: MONAI's SegResNet and diffusers' UNet2DModel on pixel-unshuffled images.

Both work on pixel-unshuffled images: a `patch × patch` block of gray pixels becomes `patch²` channels of
a grid smaller by `patch`. It is a permutation, so that noise stays i.i.d. with the same standard deviation,
and it halves the memory traffic of the costliest layers on a CPU.
"""

from __future__ import annotations

import torch
from diffusers import UNet2DModel
from monai.networks.nets import SegResNet
from torch import Tensor, nn
from torch.nn import functional


class PatchSegmenter(nn.Module):
    """MONAI's SegResNet (Myronenko 2018) on pixel-unshuffled images.

    (B, channels, G, G) images in [0, 1] → (B, structures, G, G) logits, one sigmoid per structure.
    """

    memory_format = torch.channels_last

    def __init__(
        self,
        *,
        channels: int,
        structures: int,
        patch: int,
        init_filters: int,
        blocks_down: list[int],
        blocks_up: list[int],
    ) -> None:
        super().__init__()
        self.patch = patch
        self.net = SegResNet(
            spatial_dims=2,
            init_filters=init_filters,
            in_channels=channels * patch**2,
            out_channels=structures * patch**2,
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
        )

    def forward(self, image: Tensor) -> Tensor:
        patches = functional.pixel_unshuffle(2.0 * image - 1.0, self.patch)
        logits = self.net(patches.contiguous(memory_format=self.memory_format))
        return functional.pixel_shuffle(logits, self.patch)


class PatchDenoiser(nn.Module):
    """Diffusers' UNet2DModel as a noise predictor on pixel-unshuffled images.

    `x_t` (B, channels, G, G) in DDPM units and `t` (B,) integer steps → the predicted noise, same shape as `x_t`.
    """

    memory_format = torch.channels_last

    def __init__(self, *, channels: int, patch: int, block_out_channels: list[int], layers_per_block: int, norm_num_groups: int) -> None:
        super().__init__()
        self.patch = patch
        depth = len(block_out_channels)
        self.net = UNet2DModel(
            in_channels=channels * patch**2,
            out_channels=channels * patch**2,
            block_out_channels=tuple(block_out_channels),
            layers_per_block=layers_per_block,
            down_block_types=("DownBlock2D",) * depth,
            up_block_types=("UpBlock2D",) * depth,
            norm_num_groups=norm_num_groups,
        )

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        patches = functional.pixel_unshuffle(x_t, self.patch).contiguous(memory_format=self.memory_format)
        return functional.pixel_shuffle(self.net(patches, t).sample, self.patch)
