"""Bundles as base segmenters to be evaluated: denoise and segment apart, so that those who denoise alike share it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import cast, get_args

import torch
from torch import Tensor

from certdicom.certification.denoisers import unchanged
from certdicom.certification.one_by_one import OneByOne
from certdicom.errors import UsageError
from certdicom.evaluation.protocol import Fit, Frame, fit
from certdicom.models.bundle import Bundle
from certdicom.models.description import SEGMENTER, Method
from certdicom.models.runtime import PRECISIONS, choose_device, choose_precision, load_denoiser, load_network

CLEAN = "clean"
"""Not a method: the segmenter alone, without noise."""

ONE_SHOT, MULTI_STEP, DIRECT, SEGCERTIFY = "one-shot", "multi-step", "direct", "segcertify"
METHODS: tuple[str, ...] = get_args(Method)
"""Ways to a smoothed model."""

_ALIKE = frozenset({ONE_SHOT, MULTI_STEP})
"""These need the same networks: a diffusion model."""


@dataclass(frozen=True)
class Candidate:
    """What is evaluated: a bundle in one of METHODS; "multi-step:10" takes that many steps instead of the bundle's number."""

    bundle: Bundle
    method: str

    def denoised(self) -> Bundle:
        """The bundle with this method. UsageError when it has no network for it."""
        own = self.bundle.denoising
        if self.method == own.method:
            return self.bundle
        method, colon, steps = self.method.partition(":")
        if method not in METHODS or (colon and (method != MULTI_STEP or not steps.isdecimal() or int(steps) < 1)):
            raise UsageError(f"unknown method {self.method!r}: use {', '.join(METHODS)}, or {MULTI_STEP}:STEPS with at least 1 step")
        if not can(self.bundle, method):
            raise UsageError(f"bundle {self.bundle.name} is made for {own.method} and has no network for {method}; choose another bundle")
        return replace(self.bundle, denoising=replace(own, method=cast("Method", method), steps=int(steps) if steps else own.steps))

    def require_sigma(self, sigma: float, frame: Frame) -> None:
        """UsageError when the networks cannot be asked for noise `sigma` on `frame`; nothing is loaded.

        SegCertify is judged beyond the noise that it was trained with, as in the paper.
        """
        bundle, meets = self.denoised(), self.meets(sigma, frame)
        if self.method != SEGCERTIFY:
            bundle.require_sigma(meets)

    def meets(self, sigma: float, frame: Frame) -> float:
        """The noise on the model's grid when it is `sigma` on `frame`.

        Denoisers of one level each are named by rounded levels: one within 1 % stands for it.
        """
        meets = sigma * fit(frame, self.bundle).shrinks
        levels = [float(level) for _, at, level in (role.partition("@") for role in self.bundle.networks) if at]
        return next((level for level in levels if abs(level - meets) <= 0.01 * meets), meets)


def can(bundle: Bundle, method: str) -> bool:
    """Whether the bundle has the networks that `method` needs."""
    own = bundle.denoising.method
    return method == own or {method, own} <= _ALIKE


@dataclass(frozen=True)
class BaseSegmenter:
    """One fixed function from a frame's images to decisions, in two steps.

    `denoise`: the model's noisy images → images in [0, 1]; equal `denoise_key`s mean the same function, fed in the same way by
    `fit`. `segment`: those → logits (B, structures, rows, columns), float32; a structure is present above its threshold.
    `exclusive`: exactly one class a pixel (softmax), of which channel 0 is the background.
    """

    fit: Fit
    denoise: Callable[[Tensor], Tensor]
    denoise_key: Hashable
    segment: Callable[[Tensor], Tensor]
    threshold: tuple[float, ...] = (0.0,)
    exclusive: bool = False

    def decide(self, clean: Tensor) -> Tensor:
        """Denoised images → decisions on the frame, bool (B, structures, rows, columns)."""
        logits = self.fit.from_model(self.segment(clean))
        if not self.exclusive:
            return logits > torch.tensor(self.threshold, device=logits.device).view(-1, 1, 1)
        best = logits.argmax(1, keepdim=True)
        return best == torch.arange(1, logits.shape[1], device=logits.device).view(1, -1, 1, 1)


class Loader:
    """Builds base segmenters on one device; each is made once, and on CPUs computes image by image (`OneByOne`)."""

    def __init__(self, *, device: str = "auto", precision: str = "auto") -> None:
        self.device = choose_device(device)
        self.precision = choose_precision(precision, self.device)
        self._made: dict[Hashable, Callable[[Tensor], Tensor]] = {}

    def base_segmenter(self, candidate: Candidate, frame: Frame, *, sigma: float) -> BaseSegmenter:
        """The base segmenter for noise `sigma` on `frame`; sigma 0 is the segmenter alone, in float32, at the middle threshold.

        UsageError for a method that the bundle has no network for, or noise that it was not trained for.
        """
        fits, exclusive = fit(frame, candidate.bundle), candidate.bundle.activation == "softmax"
        if not sigma:
            return BaseSegmenter(fits, unchanged, CLEAN, self._segment(candidate.bundle, "float32"), exclusive=exclusive)
        candidate.require_sigma(sigma, frame)
        bundle, meets = candidate.denoised(), candidate.meets(sigma, frame)
        segment, threshold = self._segment(bundle, self.precision), bundle.threshold(meets)
        if candidate.method == SEGCERTIFY:
            return BaseSegmenter(fits, unchanged, SEGCERTIFY, segment, threshold, exclusive)
        digests = tuple(digest for role, digest in sorted(bundle.weights_sha256.items()) if role != SEGMENTER)
        key = (bundle.denoising, bundle.schedule, bundle.feeding.factor, digests, round(meets, 12))
        if key not in self._made:
            self._made[key] = OneByOne(load_denoiser(bundle, sigma=meets, device=self.device, precision=self.precision))
        return BaseSegmenter(fits, self._made[key], key, segment, threshold, exclusive)

    def _segment(self, bundle: Bundle, precision: str) -> Callable[[Tensor], Tensor]:
        key, dtype = (bundle.sha256, precision), PRECISIONS[precision]
        if key not in self._made:
            network = load_network(bundle, SEGMENTER).to(device=self.device, dtype=dtype)
            self._made[key] = OneByOne(lambda clean: network(clean.to(dtype)).float())
        return self._made[key]
