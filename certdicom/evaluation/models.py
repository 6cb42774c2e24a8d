"""Bundles as base segmenters to be evaluated: denoise and segment apart, so that those who denoise alike share it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from certdicom.certification.denoised import OneShotDenoisedSegmenter
from certdicom.errors import UsageError
from certdicom.evaluation.protocol import Fit, Frame, fit
from certdicom.models.bundle import Bundle
from certdicom.models.runtime import PRECISIONS, choose_device, choose_precision, load_network

CLEAN = "clean"
"""Not a method: the segmenter alone, without noise."""

ONE_SHOT, SEGCERTIFY = "one-shot", "segcertify"
METHODS = (ONE_SHOT, SEGCERTIFY)
"""Ways to a smoothed model: one-shot DDPM denoising; a network that was trained with noise, without a denoiser."""


@dataclass(frozen=True)
class Candidate:
    """What is evaluated: a bundle in one of METHODS."""

    bundle: Bundle
    method: str


@dataclass(frozen=True)
class BaseSegmenter:
    """One fixed function from a frame's images to decisions, in two steps.

    `denoise`: the model's noisy images → images in [0, 1]; equal `denoise_key`s mean the same function, fed in the same way by
    `fit`. `segment`: those → logits (B, structures, rows, columns), float32; structures are present above their `threshold`.
    `exclusive`: exactly one class a pixel (softmax), of which channel 0 is the background.
    """

    fit: Fit
    denoise: Callable[[Tensor], Tensor]
    denoise_key: Hashable
    segment: Callable[[Tensor], Tensor]
    threshold: Sequence[float] = (0.0,)
    exclusive: bool = False

    def decide(self, clean: Tensor) -> Tensor:
        """Denoised images → decisions on the frame, bool (B, structures, rows, columns)."""
        logits = self.fit.from_model(self.segment(clean))
        if not self.exclusive:
            return logits > torch.tensor(self.threshold, device=logits.device).view(-1, 1, 1)
        best = logits.argmax(1, keepdim=True)
        return best == torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1, 1)


def default_method(bundle: Bundle) -> str:
    """The method that a bundle was made for: SegCertify when it has no denoiser."""
    return ONE_SHOT if "denoiser" in bundle.networks else SEGCERTIFY


class Loader:
    """Builds base segmenters on one device; each network is read once."""

    def __init__(self, *, device: str = "auto", precision: str = "auto") -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._networks: dict[Hashable, torch.nn.Module] = {}

    def base_segmenter(self, candidate: Candidate, frame: Frame, *, sigma: float) -> BaseSegmenter:
        """The base segmenter for noise `sigma` on `frame`; sigma 0 is the segmenter alone, in float32, at the middle threshold.

        UsageError for a method that the bundle has no network for, or noise that it was not trained for.
        """
        bundle, fits = candidate.bundle, fit(frame, candidate.bundle)
        if not sigma:
            return BaseSegmenter(fits, _unchanged, "as it is", self._segment(bundle, "float32"), exclusive=_exclusive(bundle))
        meets = sigma * fits.shrinks
        threshold, segment = bundle.threshold(meets), self._segment(bundle, self.precision)
        if candidate.method == SEGCERTIFY:  # judged beyond the noise that it was trained with, as in the paper
            return BaseSegmenter(fits, _unchanged, "as it is", segment, threshold, _exclusive(bundle))
        if candidate.method not in METHODS:
            raise UsageError(f"unknown method {candidate.method!r}: use {', '.join(METHODS)}")
        if "denoiser" not in bundle.networks:
            raise UsageError(f"bundle {bundle.name} has no denoiser: use --method {SEGCERTIFY}")
        bundle.require_sigma(meets)
        one_shot = OneShotDenoisedSegmenter(
            self._network(bundle, "denoiser", self.precision),
            segment,
            schedule=bundle.schedule,
            sigma=meets,
            dtype=PRECISIONS[self.precision],
        )
        key = (candidate.method, bundle.weights_sha256["denoiser"], bundle.schedule, round(meets, 12))
        return BaseSegmenter(fits, one_shot.denoise, key, segment, threshold, _exclusive(bundle))

    def _segment(self, bundle: Bundle, precision: str) -> Callable[[Tensor], Tensor]:
        network, dtype = self._network(bundle, "segmenter", precision), PRECISIONS[precision]
        return lambda clean: network(clean.to(dtype)).float()

    def _network(self, bundle: Bundle, role: str, precision: str) -> torch.nn.Module:
        key = (bundle.weights_sha256[role], precision)
        if key not in self._networks:
            self._networks[key] = load_network(bundle, role).to(device=self.device, dtype=PRECISIONS[precision])
        return self._networks[key]


def _unchanged(noisy: Tensor) -> Tensor:
    return noisy


def _exclusive(bundle: Bundle) -> bool:
    return getattr(bundle, "activation", "sigmoid") == "softmax"
