"""Train the gray DDPM on films alone, over the part of the schedule that certification uses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from certdicom.certification.schedule import LinearSchedule
from certdicom.models.networks import build_network
from certdicom.training.augmentation import augment
from certdicom.training.data import FilmSet
from certdicom.training.loop import AveragedWeights, Budget, TrainingLog, Workers, load_weights, save_weights, set_learning_rate

DENOISER = {
    "architecture": "PatchDenoiser",
    "channels": 1,
    "patch": 2,
    "block_out_channels": [48, 64, 96, 128, 192],
    "layers_per_block": 1,
    "norm_num_groups": 8,
}
"""The shipped bundle's denoiser: 7.8 million parameters."""

SIGMA_RANGE = (0.03, 1.0)
"""Noise levels on the [0, 1] grid that the networks are trained for."""


def draw_time_steps(batch: int, schedule: LinearSchedule, *, most_sigma: float = 0.55) -> Tensor:
    """Steps for a batch, shape (B,): seven in eight below `most_sigma`, the rest up to the largest sigma."""
    low, knee, high = (schedule.time_step(s) for s in (SIGMA_RANGE[0], most_sigma, SIGMA_RANGE[1]))
    fraction = torch.rand(batch)
    usual = low + fraction * (knee - low)
    strong = knee + fraction * (high - knee)
    return torch.where(torch.rand(batch) < 7 / 8, usual, strong).round().long()


def diffuse(image: Tensor, t: Tensor, alpha_bars: Tensor) -> tuple[Tensor, Tensor]:
    """(x_t, noise) for images in [0, 1] at steps `t`; fresh noise of the global generator."""
    a = alpha_bars[t].view(-1, 1, 1, 1)
    noise = torch.randn_like(image)
    return a.sqrt() * (2 * image - 1) + (1 - a).sqrt() * noise, noise


def predict_clean(x_t: Tensor, noise: Tensor, t: Tensor, alpha_bars: Tensor) -> Tensor:
    """The image in [-1, 1], not clipped, that `x_t` would be without the predicted `noise`."""
    a = alpha_bars[t].view(-1, 1, 1, 1)
    return (x_t - (1 - a).sqrt() * noise) / a.sqrt()


@torch.no_grad()
def validate_denoiser(network: torch.nn.Module, films: FilmSet, schedule: LinearSchedule) -> dict[str, float]:
    """Root mean squared error on [0, 1] after one-shot denoising, per sigma, with fixed noise."""
    alpha_bars = torch.from_numpy(schedule.alpha_bars()).float()
    generator = torch.Generator().manual_seed(0)
    scores = {}
    for sigma in (0.072, 0.144, 0.289, 0.5, 1.0):
        t = schedule.time_step(sigma)
        errors = []
        for image in films.images.split(8):
            steps = torch.full((len(image),), t)
            noise = torch.randn(image.shape, generator=generator)
            a = alpha_bars[t]
            x_t = a.sqrt() * (2 * image - 1) + (1 - a).sqrt() * noise
            with torch.autocast("cpu", dtype=torch.bfloat16):
                predicted = network(x_t, steps).float()
            clean = predict_clean(x_t, predicted, steps, alpha_bars).clamp(-1, 1)
            errors.append((((clean + 1) / 2 - image) ** 2).mean((1, 2, 3)))
        scores[str(sigma)] = round(float(torch.cat(errors).mean().sqrt()), 5)
    return scores


def train_denoiser(
    train: FilmSet,
    val: FilmSet,
    *,
    weights: Path,
    budget: Budget,
    batch: int = 8,
    peak_rate: float = 1e-3,
    start: Path | None = None,
    seed: int = 0,
    validate_every: int = 250,
) -> None:
    """Minimise 4·|x̂₀ - x₀|² + ½·|ε̂ - ε|² and write the averaged weights to `weights` at every validation."""
    workers = Workers()
    torch.manual_seed(seed)
    schedule = LinearSchedule()
    alpha_bars = torch.from_numpy(schedule.alpha_bars()).float()
    network = build_network(DENOISER)
    if start is not None:
        load_weights(network, start)
    average = AveragedWeights(network)
    optimizer = torch.optim.AdamW(network.parameters(), peak_rate, weight_decay=1e-3)
    log = TrainingLog(weights.with_suffix(".jsonl"))
    recent: list[float] = []
    torch.manual_seed(seed + workers.rank)
    progress = 0.0
    while progress < 1:
        set_learning_rate(optimizer, budget.learning_rate(peak_rate, progress))
        chosen = torch.randint(len(train), (batch,))
        image, _ = augment(train.images[chosen], train.masks[chosen][:, :1], strength=0.8)
        image = torch.where(torch.rand(batch, 1, 1, 1) < 0.5, image.flip(3), image)
        t = draw_time_steps(batch, schedule)
        x_t, noise = diffuse(image, t, alpha_bars)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = network(x_t, t)
        predicted = predicted.float()
        error = functional.mse_loss(predict_clean(x_t, predicted, t, alpha_bars), 2 * image - 1)
        loss = 4 * error + 0.5 * functional.mse_loss(predicted, noise)
        optimizer.zero_grad()
        loss.backward()
        workers.average_gradients([network])
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        budget.step += 1
        progress = workers.agree(budget.progress)
        recent.append(float(error.detach()))
        if workers.rank == 0 and (budget.step % validate_every == 0 or progress >= 1):
            rmse = validate_denoiser(average.network, val, schedule)
            log.write(step=budget.step, seconds=round(budget.seconds), loss=round(float(np.mean(recent)), 5), val_rmse=rmse)
            recent.clear()
            save_weights(average.network, weights)
