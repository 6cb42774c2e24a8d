"""Train denoiser and segmenter together: the segmenter on what the denoiser leaves, the denoiser for what the segmenter needs.

The last step of the recipe. The denoiser keeps its own loss, so that it stays a denoising diffusion model.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from certdicom.certification.schedule import LinearSchedule
from certdicom.models.networks import build_network
from certdicom.training.augmentation import augment
from certdicom.training.data import FilmSet, join
from certdicom.training.denoiser import DENOISER, diffuse, draw_time_steps, predict_clean, validate_denoiser
from certdicom.training.loop import AveragedWeights, Budget, TrainingLog, Workers, load_weights, save_weights
from certdicom.training.segmenter import SEGMENTER, annotated_first, one_shot_batch, segmentation_loss, validate_segmenter


def _denoise(denoiser: nn.Module, image: Tensor, t: Tensor, alpha_bars: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Noise `image` (B, 1, G, G) to steps `t` and denoise it at once: x̂₀ in DDPM units, |x̂₀ - x₀|², and the denoiser's loss."""
    x_t, noise = diffuse(image, t, alpha_bars)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        predicted = denoiser(x_t, t)
    predicted = predicted.float()
    clean = predict_clean(x_t, predicted, t, alpha_bars)
    error = functional.mse_loss(clean, 2 * image - 1)
    return clean, error, 4 * error + 0.5 * functional.mse_loss(predicted, noise)


def train_jointly(
    train: FilmSet,
    val: dict[str, FilmSet],
    *,
    segmenter_weights: tuple[Path | None, Path],
    denoiser_weights: tuple[Path, Path],
    budget: Budget,
    batch: int = 8,
    noised: int = 6,
    peak_rate: float = 7e-4,
    denoiser_loss_weight: float = 10.0,
    denoiser_every: int = 2,
    strength: tuple[float, float] = (0.8, 0.4),
    seed: int = 0,
    validate_every: int = 250,
) -> None:
    """Go on from the first of each pair of weight files (no segmenter: a new one) and write the averaged weights to the second.

    `noised` of every `batch` films pass through noise and denoiser, with gradients; the others are segmented as they are.
    Loss: segmentation + `denoiser_loss_weight` · (4·|x̂₀ - x₀|² + ½·|ε̂ - ε|²). The denoiser's rate is half the segmenter's, and
    it learns at every `denoiser_every`th step (0: never), which saves time. `strength` of the augmentation falls from
    the first to the second value over the budget.
    """
    workers = Workers()
    torch.manual_seed(seed)
    schedule = LinearSchedule()
    alpha_bars = torch.from_numpy(schedule.alpha_bars()).float()
    segmenter, denoiser = build_network(SEGMENTER), build_network(DENOISER)
    if segmenter_weights[0] is not None:
        load_weights(segmenter, segmenter_weights[0])
    load_weights(denoiser, denoiser_weights[0])
    averages = AveragedWeights(segmenter), AveragedWeights(denoiser)
    optimizer = torch.optim.AdamW(
        [{"params": list(segmenter.parameters()), "share": 1.0}, {"params": list(denoiser.parameters()), "share": 0.5}],
        peak_rate,
        weight_decay=1e-2,
    )
    log = TrainingLog(segmenter_weights[1].with_suffix(".jsonl"))
    preference = annotated_first(train)
    everything = join(list(val.values()))
    recent: list[tuple[float, float]] = []
    torch.manual_seed(seed + workers.rank)
    progress = 0.0
    while progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * budget.learning_rate(peak_rate, progress)
        chosen = torch.multinomial(preference, batch, replacement=True)
        mild = (1 - progress) * strength[0] + progress * strength[1]
        image, masks = augment(train.images[chosen], train.masks[chosen], strength=mild)
        both = denoiser_every > 0 and budget.step % denoiser_every == 0
        with torch.set_grad_enabled(both):
            clean, error, denoiser_loss = _denoise(denoiser, image[:noised], draw_time_steps(noised, schedule), alpha_bars)
        seen = torch.cat([(clean.clamp(-1, 1) + 1) / 2, image[noised:]])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = segmenter(seen)
        loss = segmentation_loss(logits.float(), masks, train.known[chosen])
        optimizer.zero_grad()
        (loss + denoiser_loss_weight * denoiser_loss if both else loss).backward()
        workers.average_gradients((segmenter, denoiser))
        for network in (segmenter, denoiser):
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        for average, network in zip(averages, (segmenter, denoiser), strict=True):
            average.update(network)
        budget.step += 1
        progress = workers.agree(budget.progress)
        recent.append((float(loss.detach()), float(error.detach())))
        if workers.rank == 0 and (budget.step % validate_every == 0 or progress >= 1):
            denoise = one_shot_batch(averages[1].network, schedule)
            losses = np.mean(recent, axis=0).round(5).tolist()
            dice = {name: validate_segmenter(averages[0].network, films, denoise) for name, films in val.items()}
            rmse = validate_denoiser(averages[1].network, everything, schedule)
            log.write(step=budget.step, seconds=round(budget.seconds), loss=losses, val_dice=dice, val_rmse=rmse)
            recent.clear()
            save_weights(averages[0].network, segmenter_weights[1])
            save_weights(averages[1].network, denoiser_weights[1])
