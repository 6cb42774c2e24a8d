"""Programs with fixed arithmetic: they run in the precision in which they were saved, whatever the rest of the bundle runs in."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from certdicom.errors import BundleError, one_line


class Float32Program(nn.Module):
    """`program` for one image at a time, float32 in, float32 out; moving it moves its tensors, a change of precision leaves them alone.

    A program's own constants and casts fix its arithmetic, and it may have been saved for a batch of exactly one.
    """

    def __init__(self, program: nn.Module) -> None:
        super().__init__()
        self.program = program

    def forward(self, image: Tensor) -> Tensor:
        try:
            return torch.cat([self._single(one) for one in image.float().split(1)])
        except (RuntimeError, TypeError, ValueError) as error:
            raise BundleError(
                f"the program failed on an image of {tuple(image.shape)}: {one_line(error)[-300:]}; was it saved for this grid?"
            ) from error

    def _single(self, image: Tensor) -> Tensor:
        output = self.program(image)
        if isinstance(output, tuple | list) and len(output) == 1:
            output = output[0]
        if not isinstance(output, Tensor):
            raise BundleError(f"the program gives {type(output).__name__} and not one tensor; save one that does")
        return output.float()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Float32Program:
        device = fn(torch.empty(0)).device
        super()._apply(lambda tensor: tensor.to(device), recurse)  # type: ignore[no-untyped-call]  # torch leaves it untyped
        return self
