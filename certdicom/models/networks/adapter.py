"""A segmenter behind one signature: images in [0, 1] in, one logit per structure out, whatever the network itself takes and gives."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from certdicom.errors import BundleError
from certdicom.models.description import Activation
from certdicom.models.networks.coarse import block_means, enlarged
from certdicom.models.specs import InputSpec, OutputSpec

_TINY = 1e-7
"""Probabilities are kept this far from 0 and 1, so that their logits are finite."""


class SegmenterAdapter(nn.Module):
    """(B, channels, rows, columns) images in [0, 1] → logits: (B, structures, …) for sigmoid, for softmax the background's first.

    Gray images are repeated for a colour network, and colour ones averaged for a gray network. BundleError when the network gives
    another shape than the description says.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, input_spec: InputSpec, output_spec: OutputSpec, activation: Activation) -> None:
        super().__init__()
        self.network = network
        self._input_spec = input_spec
        self._output_spec = output_spec
        self._activation = activation
        for name, values in (("mean", input_spec.mean), ("std", input_spec.std)):  # where the weights lie, and no part of them
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        answer = mirrored(self._logits) if self._input_spec.mirror else self._logits
        return coarsely(answer, image, factor=self._input_spec.factor)

    def _logits(self, image: Tensor) -> Tensor:
        output = self.network(self._fed(image))
        expected = (len(image), self._output_spec.outputs, *image.shape[-2:])
        if not isinstance(output, Tensor) or tuple(output.shape) != expected:
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise BundleError(f"the segmenter gave {found} for an image of {tuple(image.shape)}; its description promises {expected}")
        return self._read(output)

    def _fed(self, image: Tensor) -> Tensor:
        wanted = self._input_spec.channels
        if image.shape[1] != wanted:
            image = image.expand(-1, wanted, -1, -1) if image.shape[1] == 1 else image.mean(1, keepdim=True)
        return (image - self.mean) / self.std

    def _read(self, output: Tensor) -> Tensor:
        if self._output_spec.kind == "probabilities":
            output = output.float().clamp(_TINY, 1.0 - _TINY)
            output = output.logit() if self._activation == "sigmoid" else output.log()
        planes = [output[:, list(members)].amax(1) for members in self._output_spec.members]
        if self._activation == "softmax":
            taken = {member for members in self._output_spec.members for member in members}
            background = [channel for channel in range(self._output_spec.outputs) if channel not in taken]
            planes.insert(0, output[:, background].amax(1))
        return torch.stack(planes, dim=1)


def coarsely(segment: Callable[[Tensor], Tensor], image: Tensor, *, factor: int) -> Tensor:
    """`segment` on the means of factor × factor pixels, its logits enlarged bilinearly to the image's grid."""
    return enlarged(segment(block_means(image, factor)), factor)


def mirrored(segment: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """The mean of what `segment` says of an image and, turned back, of its mirror image (left to right)."""
    return lambda image: 0.5 * (segment(image) + segment(image.flip(-1)).flip(-1))
