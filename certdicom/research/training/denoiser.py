"""Train denoisers on images alone: a DDPM over the part of its schedule that certification uses, or a network for one noise level."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from certdicom.certification.schedule import LinearSchedule
from certdicom.certification.window import Moments
from certdicom.research.training.augmentation import augment
from certdicom.research.training.data import FilmSet

DENOISER = {
    "architecture": "PatchDenoiser",
    "channels": 1,
    "patch": 2,
    "block_out_channels": [48, 64, 96, 128, 192],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
"""The first edition's denoiser, 7.8 million parameters; the shipped one has patch 4 and widths 32 to 128, a fifth of the arithmetic."""

DIRECT = {"architecture": "UNet", "channels": 1, "structures": 1, "width": 16, "padding": "zero", "norm": "batch", "dropout": 0.0}
"""A denoiser for one noise level: as many planes come out as go in."""

SIGMA_RANGE = (0.03, 1.0)
"""Noise levels on the [0, 1] grid that the networks are trained for."""

MOST_SIGMA = 0.55
"""Below it lie seven in eight of the noise levels drawn in training."""

VALIDATION_SIGMAS = (0.072, 0.144, 0.289, 0.5, 1.0)


class Diffusion:
    """Noising and one-shot denoising of batches on a device, with the steps of `schedule`."""

    def __init__(self, schedule: LinearSchedule, *, device: torch.device) -> None:
        self.schedule = schedule
        self.device = device
        self._alpha_bars = torch.from_numpy(schedule.alpha_bars()).float().to(device)

    def draw_steps(self, batch: int, *, most_sigma: float = MOST_SIGMA) -> Tensor:
        """Steps for a batch, shape (B,): seven in eight below `most_sigma`, the rest up to the largest sigma."""
        low, knee, high = (self.schedule.time_step(s) for s in (SIGMA_RANGE[0], most_sigma, SIGMA_RANGE[1]))
        fraction = torch.rand(batch, device=self.device)
        usual = low + fraction * (knee - low)
        strong = knee + fraction * (high - knee)
        return torch.where(torch.rand(batch, device=self.device) < 7 / 8, usual, strong).round().long()

    def noise(self, image: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t for images in [0, 1] (B, C, G, G) at steps `t` (B,) and standard normal `noise`."""
        a = self._at(t)
        return a.sqrt() * (2 * image - 1) + (1 - a).sqrt() * noise

    def predict(self, network: nn.Module, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(x̂₀ in [-1, 1] and not clipped, ε̂), both float32."""
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            predicted = network(x_t, t)
        predicted = predicted.float()
        a = self._at(t)
        return (x_t - (1 - a).sqrt() * predicted) / a.sqrt(), predicted

    def loss(self, network: nn.Module, image: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(x̂₀, |x̂₀ - x₀|², 4·|x̂₀ - x₀|² + ½·|ε̂ - ε|²) for images in [0, 1] at steps `t` (B,)."""
        noise = torch.randn_like(image)
        clean, predicted = self.predict(network, self.noise(image, t, noise), t)
        error = functional.mse_loss(clean, 2 * image - 1)
        return clean, error, 4 * error + 0.5 * functional.mse_loss(predicted, noise)

    @torch.no_grad()
    def denoised(self, network: nn.Module, image: Tensor, *, sigma: float, generator: torch.Generator) -> Tensor:
        """Images in [0, 1] with noise of standard deviation `sigma`, denoised in one shot and clipped to [0, 1]."""
        t = torch.full((len(image),), self.schedule.time_step(sigma), device=self.device)
        noise = torch.randn(image.shape, generator=generator).to(self.device)
        clean, _ = self.predict(network, self.noise(image, t, noise), t)
        return to_unit(clean)

    def _at(self, t: Tensor) -> Tensor:
        return self._alpha_bars[t].view(-1, 1, 1, 1)


def to_unit(x: Tensor) -> Tensor:
    """DDPM units [-1, 1] → [0, 1], clipped."""
    return (x.clamp(-1, 1) + 1) / 2


class _ImageRecipe:
    """What the recipes of denoisers share: one network, "denoiser", that learns from augmented films without their masks."""

    def __init__(
        self,
        network: nn.Module,
        description: Mapping[str, Any],
        *,
        train: FilmSet,
        val: FilmSet,
        batch: int = 8,
        strength: float = 0.8,
        moments: Moments | None = None,
        preference: Tensor | None = None,
    ) -> None:
        self.device = next(network.parameters()).device
        self.networks = {"denoiser": network}
        self.descriptions = {"denoiser": description}
        self.rates = {"denoiser": 1.0}
        self._train, self._val = train.on(self.device), val
        self._preference = (torch.ones(len(train)) if preference is None else preference).to(self.device)
        self._batch, self._strength, self._moments = batch, strength, moments

    def _augmented(self) -> Tensor:
        """A batch of augmented films on the device."""
        chosen = torch.multinomial(self._preference, self._batch, replacement=True)
        image, _ = augment(self._train.images[chosen], self._train.masks[chosen], strength=self._strength, moments=self._moments)
        return image


class DenoiserRecipe(_ImageRecipe):
    """A DDPM: minimise 4·|x̂₀ - x₀|² + ½·|ε̂ - ε|² on augmented films; implements `loop.Recipe`."""

    @cached_property
    def _diffusion(self) -> Diffusion:
        return Diffusion(LinearSchedule(), device=self.device)

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002  # as the protocol has it
        """Of a batch of augmented films."""
        image = self._augmented()
        _, error, loss = self._diffusion.loss(self.networks["denoiser"], image, self._diffusion.draw_steps(len(image)))
        return loss, {"error": error.detach()}

    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Root mean squared errors of one-shot denoising."""
        return {"val_rmse": validate_denoiser(averages["denoiser"], self._val, self._diffusion)}


class DirectDenoiserRecipe(_ImageRecipe):
    """A network for noise `sigma` alone: minimise |û - u|² on augmented films (the paper's Table S3); implements `loop.Recipe`."""

    def __init__(self, network: nn.Module, description: Mapping[str, Any], *, sigma: float, **shared: Any) -> None:
        """`shared`: the arguments that all recipes of denoisers have."""
        super().__init__(network, description, **shared)
        self._sigma = sigma

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:  # noqa: ARG002  # as the protocol has it
        """Of a batch of augmented films."""
        image = self._augmented()
        error = functional.mse_loss(self._denoised(self.networks["denoiser"], image, torch.randn_like(image)), image)
        return error, {"error": error.detach()}

    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Root mean squared error at the one noise level, with fixed noise."""
        generator = torch.Generator().manual_seed(0)

        def denoise(image: Tensor) -> Tensor:
            noise = torch.randn(image.shape, generator=generator).to(self.device)
            return self._denoised(averages["denoiser"], image, noise).clamp(0, 1)

        return {"val_rmse": {f"{self._sigma:g}": _rmse(denoise, self._val, device=self.device)}}

    def _denoised(self, network: nn.Module, image: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            clean: Tensor = network(image + self._sigma * noise)
        return clean.float()


def validate_denoiser(network: nn.Module, films: FilmSet, diffusion: Diffusion) -> dict[str, float]:
    """Root mean squared error on [0, 1] after one-shot denoising, per sigma, with fixed noise."""
    generator = torch.Generator().manual_seed(0)
    return {
        str(sigma): _rmse(partial(diffusion.denoised, network, sigma=sigma, generator=generator), films, device=diffusion.device)
        for sigma in VALIDATION_SIGMAS
    }


@torch.no_grad()
def _rmse(denoise: Callable[[Tensor], Tensor], films: FilmSet, *, device: torch.device) -> float:
    """Root mean squared difference on [0, 1] between films and what `denoise` makes of them."""
    errors = []
    for batch in films.images.split(8):
        image = batch.to(device)
        errors.append(((denoise(image) - image) ** 2).mean((1, 2, 3)))
    return round(float(torch.cat(errors).mean().sqrt()), 5)
