"""The base segmenter that is smoothed: denoise, segment, compare with a threshold (Laousy et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from certdicom.certification.denoisers import Denoise
from certdicom.certification.one_by_one import OneByOne

Segment = Callable[[Tensor], Tensor]
"""Images (B, channels, H, W) in [0, 1] → logits (B, structures, H, W)."""


class BaseSegmenter:
    """f(v) = segment(denoise(v)) > threshold for noisy images v = u + sigma·ε with u in [0, 1].

    `dtype`: the segmenter's precision, the same in every draw; everything around it is float32. `threshold`: the logits above
    which each structure is present, or one for all. On CPUs each image is computed by itself, so that f depends on neither its
    place in the batch, nor the batch's size, nor the number of threads.
    """

    def __init__(self, denoise: Denoise, segment: Segment, *, dtype: torch.dtype, threshold: Sequence[float] = (0.0,)) -> None:
        self._threshold = torch.tensor(threshold).view(-1, 1, 1)
        self.logits = OneByOne(lambda noisy: segment(denoise(noisy).to(dtype)).float())

    @torch.inference_mode()
    def __call__(self, noisy: Tensor) -> Tensor:
        logits = self.logits(noisy)
        return logits > self._threshold.to(logits.device)
