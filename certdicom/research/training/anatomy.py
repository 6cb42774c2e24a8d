"""What a plausible segmentation of a chest film measures, learnt from the training films."""

from __future__ import annotations

import torch

from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import Bundle
from certdicom.models.description import SEGMENTER
from certdicom.models.plausibility import AnatomyModel, measure
from certdicom.research.training.augmentation import augment, displayed
from certdicom.research.training.data import FilmSet

CHEST = ("lungs", "heart", "clavicles")
"""The structures, in channel order, whose segmentations the measurements are made for."""


@torch.inference_mode()
def fit_anatomy(bundle: Bundle, films: FilmSet, *, rounds: int = 3, seed: int = 0) -> AnatomyModel:
    """From what the bundle's segmenter says of films on its grid as they are and, `rounds` times, mildly augmented: under their full range
    and under the displayed window, since a film is judged as it is shown.
    """
    torch.manual_seed(seed)
    segmenter = load_network(bundle, SEGMENTER)
    samples = []
    for number in range(rounds + 1):
        for images, masks in zip(films.images.split(8), films.masks.split(8), strict=True):
            seen = augment(images, masks, strength=0.4, mirrored=False)[0] if number else images
            for shown in (seen, displayed(seen, bundle.window.moments)):
                found = (segmenter(shown) > 0).numpy()
                samples += [measure(planes, image) for planes, image in zip(found, shown[:, 0].numpy(), strict=True)]
    return AnatomyModel.fit(samples)
