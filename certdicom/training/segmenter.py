"""Train the segmenter on films as they are; `joint` then goes on with films that went through noise and denoiser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from certdicom.certification.schedule import LinearSchedule
from certdicom.models.networks import build_network
from certdicom.training.augmentation import augment
from certdicom.training.data import STRUCTURES, FilmSet
from certdicom.training.denoiser import diffuse, predict_clean
from certdicom.training.loop import AveragedWeights, Budget, TrainingLog, Workers, load_weights, save_weights, set_learning_rate

SEGMENTER = {
    "architecture": "ResidualUNet",
    "channels": 1,
    "structures": len(STRUCTURES),
    "features": [32, 64, 128, 256, 384],
    "strides": [2, 2, 2, 2],
    "residual_units": 2,
}
"""The shipped bundle's segmenter: 5 million parameters."""


def segmentation_loss(logits: Tensor, masks: Tensor, known: Tensor) -> Tensor:
    """Soft Dice plus cross-entropy over the structures whose masks are known; logits and masks (B, structures, G, G)."""
    p = logits.sigmoid()
    dice = 1 - (2 * (p * masks).sum((2, 3)) + 1) / ((p + masks).sum((2, 3)) + 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, masks, reduction="none").mean((2, 3))
    return (known * (dice + 3 * entropy)).sum() / known.sum()


def mean_dice(decisions: Tensor, masks: Tensor, known: Tensor) -> list[float]:
    """Dice per structure averaged over the films where it is known and present; NaN where there is none."""
    overlap = 2 * (decisions & masks).sum((2, 3)).double()
    score = overlap / (decisions.sum((2, 3)) + masks.sum((2, 3))).clamp(min=1)
    use = known.bool()
    return [round(float(score[use[:, c], c].mean()), 4) for c in range(masks.shape[1])]


def one_shot_batch(denoiser: nn.Module, schedule: LinearSchedule) -> Callable[[Tensor, Tensor], Tensor]:
    """A function (images in [0, 1], steps) → noised and one-shot denoised images in [0, 1]."""
    alpha_bars = torch.from_numpy(schedule.alpha_bars()).float()

    @torch.no_grad()
    def denoise(image: Tensor, t: Tensor) -> Tensor:
        x_t, _ = diffuse(image, t, alpha_bars)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            predicted = denoiser(x_t, t).float()
        return (predict_clean(x_t, predicted, t, alpha_bars).clamp(-1, 1) + 1) / 2

    return denoise


@torch.no_grad()
def validate_segmenter(
    network: nn.Module, films: FilmSet, denoise: Callable[[Tensor, Tensor], Tensor] | None = None
) -> dict[str, list[float]]:
    """Mean Dice per structure on films as they are and, with a denoiser, after noise at two levels."""
    schedule = LinearSchedule()
    random_state = torch.get_rng_state()
    torch.manual_seed(0)
    scores = {}
    for sigma in (0.0, 0.072, 0.289, 0.5) if denoise else (0.0,):
        planes = []
        for image in films.images.split(8):
            seen = image if not sigma or denoise is None else denoise(image, torch.full((len(image),), schedule.time_step(sigma)))
            with torch.autocast("cpu", dtype=torch.bfloat16):
                planes.append(network(seen) > 0)
        scores["clean" if not sigma else str(sigma)] = mean_dice(torch.cat(planes), films.masks.bool(), films.known)
    torch.set_rng_state(random_state)
    return scores


def annotated_first(films: FilmSet) -> Tensor:
    """How often each film is drawn, up to a factor: those with every structure annotated more than others."""
    return 0.5 + films.known.mean(1) ** 2


def train_segmenter(
    train: FilmSet,
    val: dict[str, FilmSet],
    *,
    weights: Path,
    budget: Budget,
    batch: int = 8,
    peak_rate: float = 1e-3,
    start: Path | None = None,
    seed: int = 0,
    validate_every: int = 250,
) -> None:
    """Train on films as they are and write the averaged weights to `weights` at every validation."""
    workers = Workers()
    torch.manual_seed(seed)
    network = build_network(SEGMENTER)
    if start is not None:
        load_weights(network, start)
    average = AveragedWeights(network)
    optimizer = torch.optim.AdamW(network.parameters(), peak_rate, weight_decay=1e-2)
    log = TrainingLog(weights.with_suffix(".jsonl"))
    preference = annotated_first(train)
    recent: list[float] = []
    torch.manual_seed(seed + workers.rank)
    progress = 0.0
    while progress < 1:
        set_learning_rate(optimizer, budget.learning_rate(peak_rate, progress))
        chosen = torch.multinomial(preference, batch, replacement=True)
        image, masks = augment(train.images[chosen], train.masks[chosen])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(image)
        loss = segmentation_loss(logits.float(), masks, train.known[chosen])
        optimizer.zero_grad()
        loss.backward()
        workers.average_gradients([network])
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update(network)
        budget.step += 1
        progress = workers.agree(budget.progress)
        recent.append(float(loss.detach()))
        if workers.rank == 0 and (budget.step % validate_every == 0 or progress >= 1):
            dice = {name: validate_segmenter(average.network, films) for name, films in val.items()}
            log.write(step=budget.step, seconds=round(budget.seconds), loss=round(float(np.mean(recent)), 4), val_dice=dice)
            recent.clear()
            save_weights(average.network, weights)
