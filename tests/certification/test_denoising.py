"""sigma → t*, and the one-shot denoiser's algebra."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from certdicom.certification.schedule import LinearSchedule
from certdicom.models.backends.denoisers import OneShotDenoiser


@pytest.mark.parametrize(("ddpm_noise", "t"), [(0.125, 34), (0.25, 73), (0.5, 144), (1.0, 258), (2.0, 396)])
def test_time_steps_of_the_linear_schedule(ddpm_noise: float, t: int) -> None:
    assert LinearSchedule().time_step(ddpm_noise / 2) == t


def test_alpha_bars_are_those_of_diffusers() -> None:
    from diffusers import DDPMScheduler

    theirs = DDPMScheduler(1000, beta_start=1e-4, beta_end=2e-2, beta_schedule="linear").alphas_cumprod.numpy()
    ours = LinearSchedule().alpha_bars()
    assert ours.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=2e-5)


@pytest.mark.parametrize("sigma", [0.05, 0.25, 0.5, 1.0])
def test_a_perfect_noise_predictor_gives_back_the_image(sigma: float) -> None:
    """The network sees √ᾱ·x0 + √(1-ᾱ)·ε with the right ε scale: an oracle that knows x0 restores it."""
    schedule = LinearSchedule()
    image = torch.rand(1, 1, 16, 16)
    alpha_bar = float(schedule.alpha_bars()[schedule.time_step(sigma)])

    def oracle(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        assert t.tolist() == [schedule.time_step(sigma)] * len(x_t)
        return (x_t - alpha_bar**0.5 * (2 * image - 1)) / (1 - alpha_bar) ** 0.5

    denoise = OneShotDenoiser(oracle, schedule=schedule, sigma=sigma, dtype=torch.float32)
    noisy = image + sigma * torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(denoise(noisy), image.expand(2, -1, -1, -1), atol=1e-5, rtol=0)


@pytest.mark.parametrize("sigma", [0.05, 0.25, 0.5])
def test_what_reaches_the_network_is_unit_variance_noise_beside_the_image(sigma: float) -> None:
    schedule = LinearSchedule()
    seen: list[torch.Tensor] = []

    def record(x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        seen.append(x_t)
        return torch.zeros_like(x_t)

    generator = torch.Generator().manual_seed(1)
    denoise = OneShotDenoiser(record, schedule=schedule, sigma=sigma, dtype=torch.float32)
    denoise(0.5 + sigma * torch.randn(4, 1, 128, 128, generator=generator))
    alpha_bar = schedule.alpha_bars()[schedule.time_step(sigma)]
    assert float(torch.cat(seen).std()) == pytest.approx(2 * sigma * alpha_bar**0.5, rel=0.01)
    assert 2 * sigma * alpha_bar**0.5 == pytest.approx((1 - alpha_bar) ** 0.5, rel=0.03), "t* is the nearest whole step"


def test_images_are_clipped_after_denoising() -> None:
    denoise = OneShotDenoiser(lambda x_t, t: 10 * torch.ones_like(x_t), schedule=LinearSchedule(), sigma=0.5, dtype=torch.float32)
    assert float(denoise(torch.zeros(1, 1, 4, 4)).min()) == 0.0
