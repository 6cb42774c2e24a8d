"""What tests ask of the sampler's parts with tensors: noisy images, and a bundle's base segmenter."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from certdicom.certification.noise import noisy_image
from certdicom.models.backends.torch import TorchBackend
from certdicom.models.bundle import Bundle


def noisy_batch(u: Tensor, sigma: float, *, seed: bytes, draws: range) -> Tensor:
    """The noisy images of `draws`, (len(draws), channels, H, W)."""
    return torch.from_numpy(np.stack([noisy_image(u.numpy(), sigma, seed=seed, draw=draw) for draw in draws]))


class Segmenter:
    """A bundle's base segmenter on the CPU: tensors in, tensors out."""

    def __init__(self, bundle: Bundle, *, sigma: float, precision: str = "float32") -> None:
        self.base = TorchBackend(device="cpu", precision=precision).base_segmenter(bundle, sigma=sigma)

    def logits(self, noisy: Tensor) -> Tensor:
        return torch.from_numpy(self.base.logits(noisy.clone().numpy()))

    def __call__(self, noisy: Tensor) -> Tensor:
        return torch.stack(self.base.decide(self.logits(noisy)), dim=1)
