"""Between a grid and one that is coarser by a whole factor: means on the way down, bilinear enlargement on the way up.

Means over disjoint squares leave independent Gaussian noise independent and Gaussian, with 1 / factor of the standard deviation.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def block_means(images: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) → (B, C, H / factor, W / factor), the mean of each factor × factor square; `images` themselves for 1."""
    return functional.avg_pool2d(images, factor) if factor > 1 else images


def enlarged(planes: Tensor, factor: int) -> Tensor:
    """(B, C, H, W) → (B, C, factor · H, factor · W), linear between the centres of pixels; `planes` themselves for 1."""
    if factor == 1:
        return planes
    return functional.interpolate(planes, scale_factor=float(factor), mode="bilinear", align_corners=False)
