"""Certified scores of a bundle on films with reference masks (Laousy et al. 2023, Table 1's quantities)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.scores import Score, score
from certdicom.certification.smoothing import certify_grid
from certdicom.models.bundle import Bundle
from certdicom.models.runtime import DenoisedSegmenter, choose_device, choose_precision, load_network
from certdicom.training.data import FilmSet

READINGS = ("certified", "answered", "worst_case")


@dataclass(frozen=True)
class Result:
    """Means over the films of one set at one noise level: Dice and IoU per reading and structure (NaN where no film has
    the structure), and the share of pixels at which any structure abstains.
    """

    sigma: float
    films: int
    dice: dict[str, list[float]]
    iou: dict[str, list[float]]
    abstain_fraction: float


def evaluate_certified(
    bundle: Bundle,
    films: FilmSet,
    parameters: SmoothingParameters,
    *,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 10,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Certify every film and average the scores; the draws are seeded by each film's name, so that a run repeats itself."""
    place = choose_device(device)
    decide = DenoisedSegmenter(bundle, sigma=parameters.sigma, device=place, precision=choose_precision(precision, place))
    scores: list[list[Score | None]] = []
    abstained = []
    for index, name in enumerate(films.names):
        seed = hashlib.sha256(f"evaluation {name}".encode()).digest()
        result = certify_grid(films.images[index].to(place), decide, parameters, seed=seed, batch_size=batch_size)
        masks = films.masks[index].numpy().astype(bool)
        known = films.known[index].numpy() > 0
        scores.append([score(result.decisions[c], masks[c]) if known[c] else None for c in range(len(masks))])
        abstained.append(float((result.decisions == ABSTAIN).any(axis=0).mean()))
        if progress is not None:
            progress(index + 1, len(films))
    dice, iou = ({reading: _means(scores, reading, which) for reading in READINGS} for which in (0, 1))
    return Result(sigma=parameters.sigma, films=len(films), dice=dice, iou=iou, abstain_fraction=float(np.mean(abstained)))


def _means(scores: list[list[Score | None]], reading: str, which: int) -> list[float]:
    """Mean over films per structure of one reading's Dice (`which` 0) or IoU (1)."""
    means = []
    for structure in range(len(scores[0])):
        pairs = [getattr(row[structure], reading) for row in scores if row[structure] is not None]
        values = [pair[which] for pair in pairs if pair is not None]
        means.append(float(np.mean(values)) if values else float("nan"))
    return means


@torch.inference_mode()
def evaluate_clean(bundle: Bundle, films: FilmSet) -> list[float]:
    """Mean Dice per structure of the segmenter alone, without noise, in float32 on the CPU; NaN where no film has it."""
    segmenter = load_network(bundle, "segmenter")
    values: list[list[float]] = [[] for _ in bundle.structures]
    for image, masks, known in zip(films.images, films.masks.numpy().astype(bool), films.known.numpy(), strict=True):
        present = (segmenter(image[None])[0] > 0).numpy()
        for structure, (found, reference, has) in enumerate(zip(present, masks, known, strict=True)):
            if has and (total := found.sum() + reference.sum()):
                values[structure].append(float(2 * (found & reference).sum() / total))
    return [float(np.mean(column)) if column else float("nan") for column in values]
