"""Train denoisers on images alone: a DDPM over the part of its schedule that certification uses, or a network for one noise level."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from certdicom.certification.schedule import LinearSchedule
from certdicom.training.augmentation import augment
from certdicom.training.data import FilmSet

DENOISER = {
    "architecture": "PatchDenoiser",
    "channels": 1,
    "patch": 2,
    "block_out_channels": [48, 64, 96, 128, 192],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
"""The shipped bundle's denoiser: 7.8 million parameters."""

DIRECT = {"architecture": "UNet", "channels": 1, "structures": 1, "width": 16, "padding": "zero", "norm": "batch", "dropout": 0.0}
"""A denoiser for one noise level: as many planes come out as go in."""

SIGMA_RANGE = (0.03, 1.0)
"""Noise levels on the [0, 1] grid that the networks are trained for."""

VALIDATION_SIGMAS = (0.072, 0.144, 0.289, 0.5, 1.0)


class Diffusion:
    """Noising and one-shot denoising of batches on a device, with the steps of `schedule`."""

    def __init__(self, schedule: LinearSchedule, *, device: torch.device) -> None:
        self.schedule = schedule
        self.device = device
        self._alpha_bars = torch.from_numpy(schedule.alpha_bars()).float().to(device)

    def draw_steps(self, batch: int, *, most_sigma: float = 0.55) -> Tensor:
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

    def loss(self, network: nn.Module, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(x̂₀, |x̂₀ - x₀|², 4·|x̂₀ - x₀|² + ½·|ε̂ - ε|²) for images in [0, 1] at random steps."""
        t = self.draw_steps(len(image))
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


class DenoiserRecipe:
    """A DDPM: minimise 4·|x̂₀ - x₀|² + ½·|ε̂ - ε|² on augmented films; implements `loop.Recipe`."""

    def __init__(
        self, network: nn.Module, description: Mapping[str, Any], *, train: FilmSet, val: FilmSet, batch: int = 8, strength: float = 0.8
    ) -> None:
        self.device = next(network.parameters()).device
        self.networks = {"denoiser": network}
        self.descriptions = {"denoiser": description}
        self.rates = {"denoiser": 1.0}
        self._diffusion = Diffusion(LinearSchedule(), device=self.device)
        self._train, self._val = train, val
        self._batch, self._strength = batch, strength

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG002  # as the protocol has it
        """Of a batch of augmented films."""
        chosen = torch.randint(len(self._train), (self._batch,))
        image, _ = augment(self._train.images[chosen], self._train.masks[chosen], strength=self._strength)
        _, error, loss = self._diffusion.loss(self.networks["denoiser"], image.to(self.device))
        return loss, {"error": float(error.detach())}

    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Root mean squared errors of one-shot denoising."""
        return {"val_rmse": validate_denoiser(averages["denoiser"], self._val, self._diffusion)}


class DirectDenoiserRecipe:
    """A network for noise `sigma` alone: minimise |û - u|² on augmented films (the paper's Table S3); implements `loop.Recipe`."""

    def __init__(
        self,
        network: nn.Module,
        description: Mapping[str, Any],
        *,
        sigma: float,
        train: FilmSet,
        val: FilmSet,
        batch: int = 8,
        strength: float = 0.8,
    ) -> None:
        self.device = next(network.parameters()).device
        self.networks = {"denoiser": network}
        self.descriptions = {"denoiser": description}
        self.rates = {"denoiser": 1.0}
        self._sigma, self._train, self._val = sigma, train, val
        self._batch, self._strength = batch, strength

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:  # noqa: ARG002  # as the protocol has it
        """Of a batch of augmented films."""
        chosen = torch.randint(len(self._train), (self._batch,))
        image, _ = augment(self._train.images[chosen], self._train.masks[chosen], strength=self._strength)
        image = image.to(self.device)
        error = functional.mse_loss(self._denoised(self.networks["denoiser"], image, torch.randn_like(image)), image)
        return error, {"error": float(error.detach())}

    @torch.no_grad()
    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Root mean squared error at the one noise level, with fixed noise."""
        generator = torch.Generator().manual_seed(0)
        errors = []
        for image in self._val.images.split(8):
            noise = torch.randn(image.shape, generator=generator).to(self.device)
            clean = self._denoised(averages["denoiser"], image.to(self.device), noise).clamp(0, 1)
            errors.append(((clean - image.to(self.device)) ** 2).mean((1, 2, 3)))
        return {"val_rmse": {f"{self._sigma:g}": round(float(torch.cat(errors).mean().sqrt()), 5)}}

    def _denoised(self, network: nn.Module, image: Tensor, noise: Tensor) -> Tensor:
        with torch.autocast(self.device.type, dtype=torch.bfloat16):
            clean: Tensor = network(image + self._sigma * noise)
        return clean.float()


@torch.no_grad()
def validate_denoiser(network: nn.Module, films: FilmSet, diffusion: Diffusion) -> dict[str, float]:
    """Root mean squared error on [0, 1] after one-shot denoising, per sigma, with fixed noise."""
    generator = torch.Generator().manual_seed(0)
    scores = {}
    for sigma in VALIDATION_SIGMAS:
        errors = []
        for batch in films.images.split(8):
            image = batch.to(diffusion.device)
            clean = diffusion.denoised(network, image, sigma=sigma, generator=generator)
            errors.append(((clean - image) ** 2).mean((1, 2, 3)))
        scores[str(sigma)] = round(float(torch.cat(errors).mean().sqrt()), 5)
    return scores
