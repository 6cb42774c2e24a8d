"""From a noise level to a diffusion time step: `sigma` → `t*` (Carlini et al., ICLR 2023).

Images live in [0, 1] and a DDPM in [-1, 1], so noise of standard deviation `sigma` on the image is
`2 * sigma` for the network. Everything here is float64; only the networks are not.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Schedule(ABC):
    """A variance schedule: how much noise a diffusion model meets at each of its steps."""

    @abstractmethod
    def betas(self) -> NDArray[np.float64]:
        """The variance that each step adds, shape (steps,)."""

    def alpha_bars(self) -> NDArray[np.float64]:
        """Cumulative products of 1 - beta, shape (steps,), falling from almost 1 to almost 0."""
        return np.cumprod(1.0 - self.betas(), dtype=np.float64)

    def noise_levels(self) -> NDArray[np.float64]:
        """Standard deviation of the noise relative to the image in [-1, 1] at each step, shape (steps,)."""
        alpha_bars = self.alpha_bars()
        return np.sqrt((1.0 - alpha_bars) / alpha_bars)

    def time_step(self, sigma_eff: float) -> int:
        """The step t* whose noise is nearest to that of an image in [0, 1] with noise `sigma_eff`.

        `sigma_eff` is the standard deviation of the noise that reaches the denoiser: a k-by-k mean
        before it divides the noise by k. t* = argmin_t |(1 - abar_t) / abar_t - (2 sigma_eff)²|.
        """
        alpha_bars = self.alpha_bars()
        return int(np.argmin(np.abs((1.0 - alpha_bars) / alpha_bars - (2.0 * sigma_eff) ** 2)))


@dataclass(frozen=True)
class LinearSchedule(Schedule):
    """ADM's linear variance schedule (Ho et al. 2020; Dhariwal & Nichol 2021).

    `beta_start`, `beta_end`: variance of the first and last step, dimensionless; `steps`: how many.
    """

    beta_start: float = 1e-4
    beta_end: float = 2e-2
    steps: int = 1000

    def betas(self) -> NDArray[np.float64]:
        return np.linspace(self.beta_start, self.beta_end, self.steps, dtype=np.float64)


@dataclass(frozen=True)
class ScaledLinearSchedule(Schedule):
    """Linear in the square root of the variance (Rombach et al. 2022); fields as in LinearSchedule."""

    beta_start: float = 1e-4
    beta_end: float = 2e-2
    steps: int = 1000

    def betas(self) -> NDArray[np.float64]:
        return np.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=np.float64) ** 2


@dataclass(frozen=True)
class CosineSchedule(Schedule):
    """abar follows a squared cosine, no step above 0.999 (Nichol & Dhariwal 2021, equation 17)."""

    steps: int = 1000

    def betas(self) -> NDArray[np.float64]:
        t = np.arange(self.steps + 1, dtype=np.float64) / self.steps
        curve = np.cos((t + 0.008) / 1.008 * np.pi / 2) ** 2
        return np.minimum(1.0 - curve[1:] / curve[:-1], 0.999)


_KINDS: dict[str, type[Schedule]] = {"linear": LinearSchedule, "scaled-linear": ScaledLinearSchedule, "cosine": CosineSchedule}


def schedule_from(fields: Mapping[str, Any]) -> Schedule:
    """The schedule that `{"kind": "linear", **its fields}` describes; linear when no kind is given. ValueError for an unknown kind."""
    arguments = dict(fields)
    kind = arguments.pop("kind", "linear")
    if kind not in _KINDS:
        raise ValueError(f"unknown schedule {kind!r}: use {', '.join(_KINDS)}")
    return _KINDS[kind](**arguments)
