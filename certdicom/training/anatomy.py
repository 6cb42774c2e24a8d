"""What a plausible segmentation of a chest film measures, learnt from the training films."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from certdicom.models.plausibility import AnatomyModel, measure
from certdicom.training.augmentation import augment
from certdicom.training.data import FilmSet

CHEST = ("lungs", "heart", "clavicles")
"""The structures, in channel order, whose segmentations the measurements are made for."""


@torch.inference_mode()
def fit_anatomy(segment: Callable[[Tensor], Tensor], films: FilmSet, *, rounds: int = 3, seed: int = 0) -> AnatomyModel:
    """From the segmentations of films as they are and, `rounds` times, mildly augmented; `segment`: films → logits."""
    torch.manual_seed(seed)
    samples = []
    for number in range(rounds + 1):
        for images, masks in zip(films.images.split(8), films.masks.split(8), strict=True):
            seen = augment(images, masks, strength=0.4, mirrored=False)[0] if number else images
            found = (segment(seen) > 0).numpy()
            samples += [measure(planes, image) for planes, image in zip(found, seen[:, 0].numpy(), strict=True)]
    return AnatomyModel.fit(samples)
