"""The base segmenter of the paper: one-shot DDPM denoising, then segmentation (Carlini et al. 2023; Laousy et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from certdicom.certification.schedule import LinearSchedule

PredictNoise = Callable[[Tensor, Tensor], Tensor]
"""ε_θ: (x_t (B, channels, H, W) in DDPM units, t (B,) int64) → predicted noise of the shape of x_t."""

Segment = Callable[[Tensor], Tensor]
"""Images (B, channels, H, W) in [0, 1] → logits (B, structures, H, W)."""


class OneShotDenoisedSegmenter:
    """f(v) = segment(denoise(v)) > threshold for noisy images v = u + sigma·ε with u in [0, 1].

    x_t = √ᾱ·(2v - 1),  x̂₀ = (x_t - √(1 - ᾱ)·ε_θ(x_t, t*)) / √ᾱ,  û = (clip(x̂₀, -1, 1) + 1) / 2 at the t* of `sigma`.
    `dtype`: the networks' precision, the same in every draw; everything between them is float32. `threshold`: the logit above
    which a structure is present.
    """

    def __init__(
        self,
        predict_noise: PredictNoise,
        segment: Segment,
        *,
        schedule: LinearSchedule,
        sigma: float,
        dtype: torch.dtype,
        threshold: float = 0.0,
    ) -> None:
        self._predict_noise = predict_noise
        self._segment = segment
        self._dtype = dtype
        self.threshold = threshold
        self.t = schedule.time_step(sigma)
        self._alpha_bar = float(schedule.alpha_bars()[self.t])

    @torch.inference_mode()
    def denoise(self, noisy: Tensor) -> Tensor:
        """Noisy images on the [0, 1] scale → denoised images in [0, 1], float32, same shape."""
        x_t = self._alpha_bar**0.5 * (2.0 * noisy - 1.0)
        t = torch.full((len(noisy),), self.t, device=noisy.device)
        noise = self._predict_noise(x_t.to(self._dtype), t).float()
        clean = (x_t - (1.0 - self._alpha_bar) ** 0.5 * noise) / self._alpha_bar**0.5
        return (clean.clamp(-1.0, 1.0) + 1.0) / 2.0

    @torch.inference_mode()
    def logits(self, noisy: Tensor) -> Tensor:
        """Noisy images → logits (B, structures, H, W), float32."""
        return self._segment(self.denoise(noisy).to(self._dtype)).float()

    @torch.inference_mode()
    def __call__(self, noisy: Tensor) -> Tensor:
        return self.logits(noisy) > self.threshold
