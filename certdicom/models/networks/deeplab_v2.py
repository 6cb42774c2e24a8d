"""DeepLabV2 (Chen et al., arXiv:1606.00915, TPAMI 2018): a dilated ResNet-101 under atrous spatial pyramid pooling (ASPP-L)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from certdicom.models.networks.coarse import enlarged
from certdicom.models.networks.pointwise import StridedPointwise

EXPANSION = 4
"""A bottleneck's channels out, over its inner ones (He et al. 2016)."""

RATES = (6, 12, 18, 24)
"""Dilation of the four parallel classifiers of ASPP-L."""


class DeepLabV2(nn.Module):
    """(B, channels, H, W) → (B, structures, H, W) logits, computed at an eighth of the sides and enlarged bilinearly.

    `width`: channels of the stem (64 in the paper); `blocks`: bottlenecks per stage (ResNet-101 in the paper); `enlarge`: by how much
    images are enlarged first, so that small ones lose less to the eighth. The last two stages keep their resolution and dilate by 2
    and 4 instead. The paper's three scales and its CRF come after the network, and are not part of it.
    """

    def __init__(self, *, channels: int, structures: int, width: int = 64, blocks: Sequence[int] = (3, 4, 23, 3), enlarge: int = 1) -> None:
        super().__init__()
        if len(blocks) != 4:
            raise ValueError(f"blocks must be four numbers, one per stage, not {list(blocks)}")
        if enlarge < 1:
            raise ValueError(f"enlarge must be a whole number of at least 1, not {enlarge}")
        self.enlarge = enlarge
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        )
        stages = []
        before = width
        for stage, (count, stride, dilation) in enumerate(zip(blocks, (1, 2, 1, 1), (1, 1, 2, 4), strict=True)):
            inner = width * 2**stage
            for block in range(count):
                stages.append(Bottleneck(before, inner, stride=stride if block == 0 else 1, dilation=dilation, project=block == 0))
                before = EXPANSION * inner
        self.backbone = nn.Sequential(*stages)
        self.aspp = nn.ModuleList(nn.Conv2d(before, structures, 3, padding=rate, dilation=rate) for rate in RATES)
        for module in self.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for classifier in self.aspp:
            nn.init.normal_(classifier.weight, std=0.01)  # type: ignore[arg-type]  # modules of a list are typed loosely
            nn.init.zeros_(classifier.bias)  # type: ignore[arg-type]  # likewise

    def forward(self, image: Tensor) -> Tensor:
        features = self.backbone(self.stem(enlarged(image, self.enlarge)))
        logits = self.aspp[0](features)
        for classifier in self.aspp[1:]:
            logits = logits + classifier(features)
        return functional.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=True)


class Bottleneck(nn.Module):
    """1 × 1, dilated 3 × 3 and 1 × 1 convolution beside a shortcut; the first one strides, as in He et al. 2016."""

    def __init__(self, before: int, inner: int, *, stride: int, dilation: int, project: bool) -> None:
        super().__init__()
        after = EXPANSION * inner
        self.residual = nn.Sequential(
            StridedPointwise(before, inner, stride=stride, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False),
            nn.BatchNorm2d(inner),
            nn.ReLU(inplace=True),
            nn.Conv2d(inner, after, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut: nn.Module = (
            nn.Sequential(StridedPointwise(before, after, stride=stride, bias=False), nn.BatchNorm2d(after)) if project else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.residual(x) + self.shortcut(x))
