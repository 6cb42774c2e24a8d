"""1 × 1 convolutions that stride."""

from __future__ import annotations

from torch import Tensor, nn


class StridedPointwise(nn.Module):
    """A 1 × 1 convolution on every `stride`-th pixel: the same numbers as `nn.Conv2d(before, after, 1, stride=stride)`.

    Torch's own corrupts memory in its backward pass on CPUs when the tensors are channels-last (seen with 2.13).
    """

    def __init__(self, before: int, after: int, *, stride: int, bias: bool) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(before, after, 1, bias=bias)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(x[..., :: self.stride, :: self.stride])
