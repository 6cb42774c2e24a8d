"""From a noise level to a diffusion time step: `sigma` → `t*` (Carlini et al., ICLR 2023).

Images live in [0, 1] and a DDPM in [-1, 1], so noise of standard deviation `sigma` on the image is
`2 * sigma` for the network. Everything here is float64; only the networks are not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LinearSchedule:
    """ADM's linear variance schedule (Ho et al. 2020; Dhariwal & Nichol 2021).

    `beta_start`, `beta_end`: variance of the first and last step, dimensionless; `steps`: how many.
    """

    beta_start: float = 1e-4
    beta_end: float = 2e-2
    steps: int = 1000

    def alpha_bars(self) -> NDArray[np.float64]:
        """Cumulative products of 1 - beta, shape (steps,), falling from almost 1 to almost 0."""
        betas = np.linspace(self.beta_start, self.beta_end, self.steps, dtype=np.float64)
        return np.cumprod(1.0 - betas, dtype=np.float64)

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
