"""What stands before the segmenter: functions from noisy images to denoised ones.

All take images u + sigma·ε (B, channels, H, W), float32, with u in [0, 1], and give images of the same shape in [0, 1] (the
SegCertify way, without a denoiser, gives the noisy image itself). Each image is treated by itself: what comes out for
it does not depend on the others in the batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from certdicom.certification.noise import standard_normal
from certdicom.certification.schedule import Schedule
from certdicom.errors import UsageError
from certdicom.models.networks.coarse import block_means, enlarged

Denoise = Callable[[Tensor], Tensor]
"""Noisy images (B, channels, H, W) on the [0, 1] scale → denoised images of the same shape."""

Predict = Callable[[Tensor, Tensor], Tensor]
"""A diffusion model: (x_t (B, channels, H, W) in DDPM units, t (B,) int64) → its Prediction, of the shape of x_t."""

Prediction = Literal["epsilon", "sample", "v_prediction"]
"""What a diffusion model was trained to predict: the noise, the image, or √ᾱ·ε - √(1-ᾱ)·x₀ (Salimans & Ho 2022)."""


def unchanged(noisy: Tensor) -> Tensor:
    """SegCertify (Fischer et al. 2021): no denoiser, the segmenter was trained with noise."""
    return noisy


class OneShotDenoiser:
    """One call of a diffusion model at the t* of `sigma` (Carlini et al. 2023).

    x_t = √ᾱ·(2v - 1),  x̂₀ = (x_t - √(1 - ᾱ)·ε_θ(x_t, t*)) / √ᾱ,  û = (clip(x̂₀, -1, 1) + 1) / 2.
    `dtype`: the network's precision, the same in every draw; everything around it is float32.
    """

    def __init__(
        self, predict: Predict, *, schedule: Schedule, sigma: float, dtype: torch.dtype, prediction: Prediction = "epsilon"
    ) -> None:
        self._predict = predict
        self._dtype = dtype
        self._prediction = prediction
        self.t = schedule.time_step(sigma)
        self._alpha_bars: list[float] = schedule.alpha_bars().tolist()  # numbers, which a compiler can trace

    @torch.inference_mode()
    def __call__(self, noisy: Tensor) -> Tensor:
        x_t = self._alpha_bars[self.t] ** 0.5 * (2.0 * noisy - 1.0)
        return (self._clean(x_t, self.t) + 1.0) / 2.0

    def _clean(self, x_t: Tensor, t: int) -> Tensor:
        """x̂₀ in [-1, 1] from `x_t` at step `t`."""
        alpha_bar = self._alpha_bars[t]
        steps = torch.full((len(x_t),), t, device=x_t.device)
        predicted = self._predict(x_t.to(self._dtype), steps).float()
        return clean_image(x_t, predicted, root_alpha_bar=alpha_bar**0.5, root_rest=(1.0 - alpha_bar) ** 0.5, prediction=self._prediction)


def clean_image(
    x_t: Tensor, predicted: Tensor, *, root_alpha_bar: float | Tensor, root_rest: float | Tensor, prediction: Prediction
) -> Tensor:
    """x̂₀ in [-1, 1] from `x_t` and what a diffusion model predicted of it; `root_alpha_bar` is √ᾱ, `root_rest` √(1 - ᾱ)."""
    if prediction == "epsilon":
        clean = (x_t - root_rest * predicted) / root_alpha_bar
    elif prediction == "sample":
        clean = predicted
    else:
        clean = root_alpha_bar * x_t - root_rest * predicted
    return clean.clamp(-1.0, 1.0)


class MultiStepDenoiser(OneShotDenoiser):
    """The reverse process from the t* of `sigma` down to 0 (the paper's Table S1).

    `steps`: network calls, spread evenly over t* … 0; None is every step, t*, t* - 1, … 0. `eta`: 1 is DDPM's ancestral sampling
    (posterior variance, Ho et al. 2020), 0 is deterministic DDIM (Song et al. 2021, equations 12 and 16). The fresh noise of
    each step is a keyed function of the noisy image itself, so that this is one fixed function of it: the same on any
    batch, and another for every draw.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        schedule: Schedule,
        sigma: float,
        dtype: torch.dtype,
        prediction: Prediction = "epsilon",
        steps: int | None = None,
        eta: float = 1.0,
    ) -> None:
        super().__init__(predict, schedule=schedule, sigma=sigma, dtype=dtype, prediction=prediction)
        if steps is not None and steps < 1:
            raise UsageError(f"multi-step denoising takes at least 1 step, not {steps}")
        if not 0.0 <= eta <= 1.0:
            raise UsageError(f"eta must be between 0 (DDIM) and 1 (DDPM), not {eta:g}")
        self.time_steps = reverse_steps(self.t, steps)
        self._eta = eta

    @torch.inference_mode()
    def __call__(self, noisy: Tensor) -> Tensor:
        keys = [hashlib.sha256(image.cpu().numpy().tobytes()).digest() for image in noisy] if self._eta else []
        x_t = self._alpha_bars[self.t] ** 0.5 * (2.0 * noisy - 1.0)
        for t, following in zip(self.time_steps, self.time_steps[1:], strict=False):
            clean = self._clean(x_t, t)
            alpha_bar, alpha_bar_next = self._alpha_bars[t], self._alpha_bars[following]
            noise = (x_t - alpha_bar**0.5 * clean) / (1.0 - alpha_bar) ** 0.5
            variance = self._eta**2 * (1.0 - alpha_bar_next) / (1.0 - alpha_bar) * (1.0 - alpha_bar / alpha_bar_next)
            x_t = alpha_bar_next**0.5 * clean + (1.0 - alpha_bar_next - variance) ** 0.5 * noise
            if self._eta:
                fresh = np.stack([standard_normal(key, t, tuple(noisy.shape[1:])) for key in keys])
                x_t = x_t + variance**0.5 * torch.from_numpy(fresh).float().to(x_t.device)
        return (self._clean(x_t, self.time_steps[-1]) + 1.0) / 2.0


def reverse_steps(t: int, steps: int | None) -> list[int]:
    """`steps` whole numbers spread evenly from `t` down to 0, both ends included; `t` alone for one step; all of them for None."""
    if steps is None or steps > t:
        return list(range(t, -1, -1))
    return [t] if steps == 1 else [round(t * (steps - 1 - index) / (steps - 1)) for index in range(steps)]


class DirectDenoiser:
    """A network that gives the clean image at once, trained for one noise level (the paper's Table S3)."""

    def __init__(self, network: Callable[[Tensor], Tensor], *, dtype: torch.dtype) -> None:
        self._network = network
        self._dtype = dtype

    @torch.inference_mode()
    def __call__(self, noisy: Tensor) -> Tensor:
        return self._network(noisy.to(self._dtype)).float().clamp(0.0, 1.0)


class CoarseDenoiser:
    """`denoise` on a grid coarser by `factor`: the mean of factor × factor pixels before it, enlargement after it.

    The mean leaves the noise independent, with 1 / `factor` of the standard deviation; `denoise` must be made for that. `smooth`:
    enlarge bilinearly; otherwise pixels are repeated, which a segmenter that takes means over `factor` pixels undoes exactly.
    """

    def __init__(self, denoise: Denoise, *, factor: int, smooth: bool = True) -> None:
        self._denoise = denoise
        self._factor = factor
        self._smooth = smooth

    @torch.inference_mode()
    def __call__(self, noisy: Tensor) -> Tensor:
        return finer(self._denoise(block_means(noisy, self._factor)), self._factor, smooth=self._smooth)


def finer(images: Tensor, factor: int, *, smooth: bool) -> Tensor:
    """`images` on a grid finer by `factor`, enlarged bilinearly (`smooth`) or with repeated pixels."""
    if smooth or factor == 1:
        return enlarged(images, factor)
    return functional.interpolate(images, scale_factor=float(factor), mode="nearest")
