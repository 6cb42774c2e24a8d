"""Randomized smoothing of a segmenter of one's own, in the shape of Cohen et al.'s `Smooth` (ICML 2019).

model = Smoothed(segmenter, denoiser=epsilon, schedule=LinearSchedule(), sigma=0.25)
result = model.certify(u)
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import GridResult, Progress, certify_grids
from certdicom.certification.schedule import Schedule
from certdicom.errors import UsageError
from certdicom.models.backends.calls import fixed_calls
from certdicom.models.backends.denoisers import OneShotDenoiser, Prediction
from certdicom.models.backends.torch import choose_device
from certdicom.models.backends.ways import way_of
from certdicom.progress import moved

Segmenter = Callable[[Tensor], Tensor]
"""Images (B, channels, H, W) float32 in about [0, 1] → logits (B, structures, H, W), or with softmax the background's first."""


class Smoothed:
    """A segmenter, behind a one-shot diffusion denoiser or alone, smoothed with Gaussian noise of `sigma`.

    `segmenter`: an `nn.Module` or any function, see `Segmenter`; `denoiser`: (x_t in DDPM units (B, channels, H, W), t (B,) int64) → its
    `prediction`, a tensor or an object with `.sample` as of diffusers, with the `schedule` that it was trained for; without one the
    segmenter meets the noise itself, as SegCertify trains it (Fischer et al., ICML 2021). `softmax`: structures exclude each other, and
    the first logit is the background's; `threshold`: logit, or margin over the best other one, above which a structure is present, one for
    all or one for each; `device` as on the command line. Modules are moved there and set to eval mode. Everything is float32.
    """

    def __init__(
        self,
        segmenter: Segmenter,
        *,
        sigma: float,
        denoiser: Callable[[Tensor, Tensor], Any] | None = None,
        schedule: Schedule | None = None,
        prediction: Prediction = "epsilon",
        softmax: bool = False,
        threshold: float | Sequence[float] = 0.0,
        device: str = "auto",
    ) -> None:
        """UsageError for a denoiser without its schedule, or a device that is not there."""
        if (denoiser is None) != (schedule is None):
            raise UsageError("a denoiser and the schedule that it was trained for go together: give both or neither")
        self.sigma = SmoothingParameters(sigma=sigma).sigma
        self._device = choose_device(device)
        self._softmax, self._threshold = softmax, threshold
        self._way = replace(way_of(self._device), layout="as built")
        self._segment = fixed_calls(_on(segmenter, self._device), self._way)
        self._clean: Callable[[Tensor], Tensor] | None = None
        if denoiser is not None and schedule is not None:
            predict = _tensors(_on(denoiser, self._device))
            one_shot = OneShotDenoiser(predict, schedule=schedule, sigma=sigma, dtype=torch.float32, prediction=prediction)
            self._clean = fixed_calls(one_shot, self._way)

    def __repr__(self) -> str:
        return f"Smoothed(sigma={self.sigma:g}, {'one-shot denoiser' if self._clean else 'no denoiser'}, {self._device})"

    def logits(self, noisy: NDArray[np.float32]) -> NDArray[np.float32]:
        """Noisy images (B, channels, H, W) → the base segmenter's logits (B, outputs, H, W)."""
        with torch.inference_mode():
            images = torch.from_numpy(np.ascontiguousarray(noisy)).to(self._device)
            return np.asarray(self._segment(images if self._clean is None else self._clean(images)).float().cpu().numpy())

    def certify(
        self,
        u: NDArray[np.floating[Any]] | Tensor,
        *,
        n0: int = SmoothingParameters.n0,
        n: int = SmoothingParameters.n,
        alpha: float = SmoothingParameters.alpha,
        tau: float = SmoothingParameters.tau,
        seed: bytes | None = None,
        batch_size: int = 10,
        progress: Progress | bool | None = None,
    ) -> GridResult:
        """Certify one image: with confidence 1 - alpha no decision that is not ABSTAIN is wrong about the smoothed segmenter.

        `u`: (channels, H, W) in [0, 1]; `n0` draws select, `n` further ones test at `tau`; `seed`: secret bytes, by which the draws can be
        repeated; None takes them from the operating system; `batch_size`: draws in memory at once, which changes no bit. UsageError when
        nothing could be certified.
        """
        image = np.asarray(u.detach().cpu() if isinstance(u, Tensor) else u)
        parameters = SmoothingParameters(sigma=self.sigma, n0=n0, n=n, alpha=alpha, tau=tau)
        with moved(progress) as bar:
            ((result,),) = certify_grids(
                [image if image.dtype == np.float64 else image.astype(np.float32, copy=False)],
                [self._base_segmenter(image)],
                [parameters],
                seeds=[secrets.token_bytes(32) if seed is None else seed],
                batch_size=batch_size,
                progress=bar,
            )
        return result

    def _base_segmenter(self, image: NDArray[Any]) -> BaseSegmenter:
        return BaseSegmenter(
            logits=self.logits,
            thresholds=self._thresholds(image),
            exclusive=self._softmax,
            images_a_call=self._way.images_a_call,
        )

    def _thresholds(self, image: NDArray[Any]) -> tuple[float, ...]:
        """One threshold for each structure; how many there are, the segmenter's answer to the image itself says."""
        if not isinstance(self._threshold, int | float):
            return tuple(float(value) for value in self._threshold)
        logits = self.logits(image[np.newaxis].astype(np.float32))
        if logits.ndim != 4 or logits.shape[0] != 1 or logits.shape[2:] != image.shape[1:]:
            raise UsageError(f"the segmenter must give logits (1, structures, {image.shape[1]}, {image.shape[2]}), not {logits.shape}")
        return (float(self._threshold),) * (logits.shape[1] - self._softmax)


def _tensors(denoiser: Callable[[Tensor, Tensor], Any]) -> Callable[[Tensor, Tensor], Tensor]:
    """The denoiser's prediction itself, where it comes in an object of diffusers."""

    def predict(x_t: Tensor, t: Tensor) -> Tensor:
        predicted = denoiser(x_t, t)
        tensor: Tensor = getattr(predicted, "sample", predicted)
        return tensor

    return predict


def _on(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    return function.eval().to(device) if isinstance(function, nn.Module) else function
