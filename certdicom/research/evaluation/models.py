"""What is evaluated: bundles, each in one of the ways to a smoothed model, as base segmenters of images on a noise grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast, get_args

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.errors import UsageError
from certdicom.models.bundle import Bundle
from certdicom.models.description import Method
from certdicom.research.evaluation.protocol import NoiseGrid, adapter_for

if TYPE_CHECKING:
    from certdicom.models.backends.base import Backend

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

    def require_sigma(self, sigma: float, noise_grid: NoiseGrid) -> None:
        """UsageError when the networks cannot be asked for noise `sigma` on `noise_grid`; nothing is loaded.

        SegCertify is judged beyond the noise that it was trained with, as in the paper.
        """
        bundle, meets = self.denoised(), self.meets(sigma, noise_grid)
        if self.method != SEGCERTIFY:
            bundle.require_sigma(meets)

    def meets(self, sigma: float, noise_grid: NoiseGrid) -> float:
        """The noise on the model's grid when it is `sigma` on `noise_grid`.

        Denoisers of one level each are named by rounded levels: one within 1 % stands for it.
        """
        meets = sigma * adapter_for(noise_grid, self.bundle).shrinks
        levels = [float(level) for _, at, level in (role.partition("@") for role in self.bundle.networks) if at]
        return next((level for level in levels if abs(level - meets) <= 0.01 * meets), meets)


def can(bundle: Bundle, method: str) -> bool:
    """Whether the bundle has the networks that `method` needs."""
    own = bundle.denoising.method
    return method == own or {method, own} <= _ALIKE


def base_segmenter(backend: Backend, candidate: Candidate, noise_grid: NoiseGrid, *, sigma: float) -> BaseSegmenter:
    """The base segmenter for noise `sigma` on `noise_grid`; sigma 0 is the segmenter alone, in float32, at the middle threshold.

    UsageError for a method that the bundle has no network for, or noise that it was not trained for.
    """
    fits = adapter_for(noise_grid, candidate.bundle)
    around = None if fits.plain else fits
    if not sigma:
        return backend.clean_segmenter(candidate.bundle, adapter=around)
    candidate.require_sigma(sigma, noise_grid)
    return backend.base_segmenter(candidate.denoised(), sigma=candidate.meets(sigma, noise_grid), adapter=around)
