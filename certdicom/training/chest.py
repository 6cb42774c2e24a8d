"""The shipped chest bundle: from two weight files to a bundle folder."""

from __future__ import annotations

from pathlib import Path

import torch

from certdicom.models.bundle import load_bundle
from certdicom.models.plausibility import AnatomyModel, measure
from certdicom.presentation.palette import STRUCTURE_RGB
from certdicom.selftest import EXPECTATION, record_expectation
from certdicom.training.augmentation import augment
from certdicom.training.bundle import write_bundle
from certdicom.training.calibration import calibrate_thresholds
from certdicom.training.data import STRUCTURES, FilmSet, take
from certdicom.training.denoiser import SIGMA_RANGE
from certdicom.training.weights import load_network

_CODES = {
    "lungs": ("39607008", "SCT", "Lung"),
    "heart": ("80891009", "SCT", "Heart"),
    "clavicles": ("51299004", "SCT", "Clavicle"),
}


@torch.inference_mode()
def fit_anatomy(segmenter: torch.nn.Module, films: FilmSet, *, rounds: int = 3, seed: int = 0) -> AnatomyModel:
    """Learn what a plausible segmentation measures, from the segmentations of films as they are and mildly augmented."""
    torch.manual_seed(seed)
    samples = []
    for number in range(rounds + 1):
        for images, masks in zip(films.images.split(8), films.masks.split(8), strict=True):
            seen = augment(images, masks, strength=0.4, mirrored=False)[0] if number else images
            found = (segmenter(seen) > 0).numpy()
            samples += [measure(planes, image) for planes, image in zip(found, seen[:, 0].numpy(), strict=True)]
    return AnatomyModel.fit(samples)


def write_chest_bundle(folder: Path, *, denoiser: Path, segmenter: Path, train: FilmSet, calibration_films: int = 8) -> None:
    """Pack the two networks as bundle `folder`, named after it; an existing model card is kept.

    `calibration_films`: how many of the first training films choose the thresholds.
    """
    loaded = {"segmenter": load_network(segmenter), "denoiser": load_network(denoiser)}
    networks = {role: network.eval() for role, (network, _) in loaded.items()}
    anatomy = fit_anatomy(networks["segmenter"], train)
    description = {
        "name": folder.name,
        "summary": "lungs, heart and clavicles on frontal chest films; gray one-shot DDPM denoiser",
        "grid": 256,
        "channels": 1,
        "structures": [{"label": label, "code": _CODES[label], "rgb": STRUCTURE_RGB[label]} for label in STRUCTURES],
        "schedule": {"beta_start": 1e-4, "beta_end": 2e-2, "steps": 1000},
        "sigma_range": SIGMA_RANGE,
        "networks": {role: text for role, (_, text) in loaded.items()},
        "anatomy": anatomy.limits,
    }
    write_bundle(folder, description=description, networks=networks)
    annotated = take(train, calibration_films)
    description["thresholds"] = calibrate_thresholds(load_bundle(folder), annotated)
    write_bundle(folder, description=description, networks=networks)
    bundle = load_bundle(folder)
    record_expectation(bundle, (folder / EXPECTATION).write_text)
