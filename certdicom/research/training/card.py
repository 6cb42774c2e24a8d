"""The model card of a bundle, written from what its files say of themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from certdicom.models.bundle import Bundle
from certdicom.models.description import DENOISER
from certdicom.research.datasets.terms import terms_of
from certdicom.research.training.calibration import TOLERATED_LOSS

_METHODS = {
    "one-shot": "noise is taken away by one call of a diffusion model, then the image is segmented (Laousy et al. 2023)",
    "multi-step": "noise is taken away by the reverse process of a diffusion model, then the image is segmented (their Table S1)",
    "direct": "noise is taken away by a network that was trained for this noise level alone, then the image is segmented (their Table S3)",
    "segcertify": "the noisy image is segmented as it is by a network that was trained under noise (SegCertify, Fischer et al. 2021)",
}

_SHOWN_ELSEWHERE = {"data", "began_with", "denoiser", "network", "val_dice", "val_rmse", "seconds", "what"}
"""Parts of a record that have a place of their own in the card."""


def model_card(bundle: Bundle, *, records: Mapping[str, Mapping[str, Any]], calibration_images: int) -> str:
    """Markdown. `records`: how the networks of each role were trained, as their weight files say; borrowed ones have none."""
    return "\n".join(
        [
            f"# Model card: {bundle.name}",
            "",
            f"**Research use only, not a medical device.** {bundle.summary[:1].upper()}{bundle.summary[1:]}. Not for diagnosis, triage, "
            "measurement of patients or any decision about care.",
            "",
            "## What it is",
            "",
            *_networks(bundle),
            "",
            "## Data and their terms",
            "",
            *_data(records),
            *(f"\nThe {role} is that of {home.name}, whose card says what it was trained on." for role, home in _lenders(bundle)),
            "",
            "No image is part of the bundle. The weights inherit the restrictions of the images that they were trained on.",
            "",
            "## Training",
            "",
            *(line for role in records for line in _training(role, records[role])),
            *_thresholds(bundle, calibration_images),
            "## Limits",
            "",
            "* A certificate says that decisions are stable under small L2 changes. A stable decision can be wrong: a confident mistake is "
            "certified too.",
            "* The networks know the images of the data sets above. Other devices, ages, projections and diseases are unknown to them, and "
            f"{'only a plain picture check' if bundle.anatomy else 'nothing'} refuses them.",
            "* Training may have been stopped, and settings chosen, with the validation images in view: scores on them are a little "
            "optimistic.",
            "",
        ]
    )


def _networks(bundle: Bundle) -> Iterator[str]:
    rows, columns = bundle.shape
    yield f"* **Way**: {_METHODS[bundle.denoising.method]}."
    for role, description in bundle.networks.items():
        arguments = ", ".join(f"{name} {json.dumps(value)}" for name, value in description.items() if name not in ("architecture", "input"))
        lender = f", borrowed from the bundle {bundle.homes[role].name}" if role in dict(_lenders(bundle)) else ""
        digest = bundle.weights_sha256[role][:16]
        yield f"* **{role.capitalize()}**: {description['architecture']}{lender} ({arguments}). SHA-256 of the weights {digest}…"
    kind = "gray" if bundle.channels == 1 else "red, green and blue"
    yield f"* **Images**: {rows} × {columns} pixels, {kind}, values in [0, 1]; images are squashed to the grid."
    for role, factor in (("denoiser", bundle.denoising.factor), ("segmenter", bundle.input_spec.factor)):
        if factor > 1:
            yield f"* The {role} works on {rows // factor} × {columns // factor} means of {factor} × {factor} pixels."
    if bundle.integers:
        yield f"* The networks compute in {bundle.integers} (NNCF), but for their first and last convolution; only OpenVINO runs them."
    if bundle.input_spec.mirror:
        yield "* The segmenter is asked about the image and its mirror image, and the mean of both answers is taken."
    low, high = bundle.sigma_range
    overlap = "; structures may overlap" if len(bundle.structures) > 1 and bundle.activation == "sigmoid" else ""
    labels = ", ".join(structure.label for structure in bundle.structures)
    yield f"* **Structures**: {labels}{overlap}. **Noise**: sigma {low:g} to {high:g}."


def _lenders(bundle: Bundle) -> list[tuple[str, Path]]:
    """The roles whose networks other bundles have, with those bundles' folders."""
    return [(role, home) for role, home in bundle.homes.items() if home != bundle.folder]


def _data(records: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    used: dict[str, dict[str, int]] = {}
    for record in records.values():
        for stage in (stage for member in _members(record) for stage in _stages(member)):
            for name, counts in stage.get("data", {}).items():
                used.setdefault(name, counts)
    if not used:
        yield "The weight files do not say what they were trained on: state it here, with its terms."
        return
    yield "| set | images to train, to validate | terms |"
    yield "| --- | --- | --- |"
    for name, counts in used.items():
        known = terms_of(name)
        title, terms = (known.title, known.terms) if known else (name, "not known to certdicom: state them here")
        yield f"| {title} | {counts['train']}, {counts['val']} | {terms} |"


def _training(role: str, record: Mapping[str, Any]) -> Iterator[str]:
    members = _members(record)
    if len(members) > 1:
        for number, member in enumerate(members, 1):
            yield from _training(f"{role}, member {number}", member)
        return
    if not record:
        yield f"The weight file of the {role} does not say how it was trained."
        yield ""
        return
    stages = list(_stages(record))
    course = "in one stage" if len(stages) == 1 else f"in {len(stages)} stages, each beginning with the weights of the one before"
    yield f"**{role.capitalize()}**, {course}:"
    yield ""
    for stage in stages:
        if note := stage.get("note"):  # of a training that certdicom did not record itself
            yield f"1. {note[:1].upper()}{note[1:]}."
            continue
        settings = "; ".join(
            f"{name.replace('_', ' ')} {_plain(value)}" for name, value in stage.items() if name not in _SHOWN_ELSEWHERE and value
        )
        yield f"1. {_way(stage, role)}, {stage.get('seconds', 0) / 60:.0f} minutes on {', '.join(stage.get('data', {}))}: {settings}."
        yield from _scores(stage)
    yield ""


def _way(stage: Mapping[str, Any], role: str) -> str:
    if stage.get("what") == DENOISER:
        return f"For noise {stage['sigma']:g} alone" if stage.get("sigma") else "As a diffusion model"
    if stage.get("noise"):
        return f"Under noise of sigma {stage['noise']:g}"
    if role == DENOISER:
        return "Together with a segmenter behind it"
    return "Behind the denoiser, three quarters of every batch" if stage.get("denoiser") else "On images without noise"


def _scores(stage: Mapping[str, Any]) -> Iterator[str]:
    for data, views in stage.get("val_dice", {}).items():
        structures = stage.get("structures", [])
        for view, values in views.items():
            dice = ", ".join(f"{label} {value:.3f}" for label, value in zip(structures, values, strict=False))
            yield f"   * Dice on the validation images of {data}, {'as they are' if view == 'clean' else f'at sigma {view}'}: {dice}"
    if errors := stage.get("val_rmse"):
        said = ", ".join(f"{error:.4f} at sigma {sigma}" for sigma, error in errors.items())
        yield f"   * Root mean squared error after denoising: {said}"


def _thresholds(bundle: Bundle, images: int) -> Iterator[str]:
    if not bundle.thresholds:
        return
    yield (
        f"**Thresholds.** Smoothing certifies an eroded structure, the more the stronger the noise. On {images} training images a logit "
        "threshold was therefore chosen for each structure and noise level: the one with the best certified Dice that does not lower the "
        f"worst-case Dice by more than {TOLERATED_LOSS:g}. Between noise levels they are interpolated."
    )
    yield ""
    labels = [structure.label for structure in bundle.structures]
    yield f"| sigma | {' | '.join(labels)} |"
    yield f"| --- |{' --- |' * len(labels)}"
    for sigma, logits in bundle.thresholds:
        yield f"| {sigma:g} | {' | '.join(f'{logit:g}' for logit in logits)} |"
    yield ""


def _members(record: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The records of the networks that one is the mean of, or its own."""
    members: Sequence[Mapping[str, Any]] = record.get("members", [record])
    return members


def _stages(record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The stages of a training, first one first."""
    if earlier := record.get("began_with"):
        yield from _stages(earlier)
    if record:
        yield record


def _plain(value: Any) -> str:
    """A setting in words: "0.5 to 0.3", "192 × 256", "lungs, heart"."""
    if not isinstance(value, list):
        return str(value)
    between = " to " if all(isinstance(item, float) for item in value) else " × " if all(isinstance(item, int) for item in value) else ", "
    return between.join(str(item) for item in value)
