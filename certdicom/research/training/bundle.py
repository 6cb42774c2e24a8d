"""Put trained networks and their description into a bundle folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from certdicom.certification.window import WindowRule
from certdicom.errors import UsageError
from certdicom.models.backends.export import export_bundle
from certdicom.models.backends.quantise import INT8, quantise_bundle
from certdicom.models.bundle import BORROWED, DESCRIPTION, load_bundle
from certdicom.models.description import DENOISER, SEGMENTER, Method
from certdicom.models.networks.precision import to_half
from certdicom.models.schema import FORMAT
from certdicom.outputs import codes
from certdicom.outputs.palette import STRUCTURE_RGB
from certdicom.research.training.anatomy import CHEST, fit_anatomy
from certdicom.research.training.calibration import LEVELS, calibrate_thresholds
from certdicom.research.training.card import model_card
from certdicom.research.training.data import FilmSet, spread
from certdicom.research.training.denoiser import SIGMA_RANGE
from certdicom.research.training.weights import Trained
from certdicom.selftest import EXPECTATION, record_expectation

CARD = "MODEL_CARD.md"

_QUANTISING_IMAGES = 60
"""Training images on which activations are measured."""

CODES = {
    "lungs": codes.LUNG,
    "heart": codes.HEART,
    "clavicles": codes.CLAVICLE,
    "lesion": codes.SKIN_LESION,
    "polyp": codes.POLYP_OF_COLON,
}
"""The codes of the structures that the known data sets have masks of."""

_SEGCERTIFY_SHARES = (1.0, 2.0, 4.0)
"""The noise levels of the paper for a network trained under noise, over that of its training: thresholds are chosen at each."""

_SEGCERTIFY_RANGE = (0.5, _SEGCERTIFY_SHARES[-1])
"""The noise for which such a network may be asked, over that of its training."""


@dataclass(frozen=True, kw_only=True)
class Packing:
    """What goes into a bundle beside the networks.

    `structures` in channel order, with a code for each of them in `codes`; `grid` (rows, columns) of the networks; `factor`: how many
    times finer the bundle's grid is; `method`: None for the one that the networks are made for; `calibration_images`: how many
    training images choose the thresholds, 0 for plain zeros; `summary`: one line for `certdicom bundle list`; `borrow`: the bundle whose
    denoiser is used; `mirror`: ask the segmenter about each image and its mirror image; `int8`: quantise both networks.
    """

    structures: Sequence[str]
    grid: tuple[int, int]
    factor: int = 1
    method: Method | None = None
    calibration_images: int = 8
    summary: str = ""
    borrow: str | None = None
    mirror: bool = False
    int8: bool = False
    codes: Mapping[str, codes.Concept] = field(default_factory=lambda: CODES)


def pack(folder: Path, *, segmenter: Trained, denoisers: Sequence[Trained] = (), packing: Packing, train: FilmSet) -> dict[str, str]:
    """Write bundle `folder`, named after it, with thresholds, model card and self-test; what became of each role's program.

    `train`: training images on the bundle's grid; an existing card is kept. `denoisers`: a diffusion model, or networks trained for
    one noise level each; none with `packing.borrow`, or for a segmenter trained under noise. UsageError when they do not belong
    together.
    """
    networks = {SEGMENTER: segmenter, **_by_role(denoisers, factor=packing.factor)}
    noise = float(segmenter.record.get("noise", 0.0))
    description = _description(folder.name, networks, packing, noise=noise)
    weights = {role: trained.network.eval() for role, trained in networks.items()}
    digests = _write_weights(folder, weights)
    _write_description(folder, description, digests)
    outcomes = export_bundle(folder)
    if packing.int8:
        quantise_bundle(load_bundle(folder), [image.numpy() for image in spread(train, _QUANTISING_IMAGES).images])
        description["integers"] = INT8
    description["programs_sha256"] = dict(load_bundle(folder).programs_sha256)
    if tuple(packing.structures) == CHEST and description["channels"] == 1:
        description["anatomy"] = fit_anatomy(load_bundle(folder), train).limits
        _write_description(folder, description, digests)
    if packing.calibration_images:
        films = spread(train, packing.calibration_images)
        levels = _levels(description, factor=packing.factor, noise=noise)
        chosen = calibrate_thresholds(load_bundle(folder), films, sigmas=levels)
        description["thresholds"] = [{"sigma": sigma, "logits": logits} for sigma, logits in chosen]
        _write_description(folder, description, digests)
    bundle = load_bundle(folder)
    if not (folder / CARD).exists():
        records = {role: trained.record for role, trained in networks.items()}
        (folder / CARD).write_text(model_card(bundle, records=records, calibration_images=packing.calibration_images), encoding="utf-8")
    record_expectation(bundle, (folder / EXPECTATION).write_text)
    return outcomes


def write_bundle(folder: Path, *, description: Mapping[str, Any], networks: Mapping[str, nn.Module]) -> None:
    """Write `folder` with safetensors for each network, and bundle.json with their digests; a borrowed network's stands beside."""
    _write_description(folder, description, _write_weights(folder, networks))


def _write_weights(folder: Path, networks: Mapping[str, nn.Module]) -> dict[str, str]:
    """Write the networks' files; their SHA-256 digests by role."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for role, network in networks.items():
        content = save(to_half(network.state_dict()))
        (folder / f"{role}.safetensors").write_bytes(content)
        digests[role] = hashlib.sha256(content).hexdigest()
    return digests


def _write_description(folder: Path, description: Mapping[str, Any], digests: Mapping[str, str]) -> None:
    window = WindowRule()
    default = {
        "activation": "sigmoid",
        "window": {"rule": window.kind, "mean": window.moments.mean, "deviation": window.moments.deviation},
        "denoising": {"method": "one-shot" if DENOISER in description["networks"] else "segcertify"},
    }
    fields = {"format": FORMAT, **default, **description, "weights_sha256": digests}
    path = folder / DESCRIPTION
    path.write_text(json.dumps(fields, indent=2) + "\n")
    if set(digests) < set(description["networks"]):
        path.write_text(json.dumps({**fields, "weights_sha256": dict(load_bundle(folder).weights_sha256)}, indent=2) + "\n")


def _by_role(denoisers: Sequence[Trained], *, factor: int) -> dict[str, Trained]:
    """The role of each: that of the diffusion model, or of the denoiser for one noise level on the bundle's grid."""
    levels = {factor * float(trained.record.get("sigma", 0.0)): trained for trained in denoisers}
    if len(levels) < len(denoisers) or (0.0 in levels and len(levels) > 1):
        raise UsageError("give one diffusion model as --denoiser, or one denoiser for each of several noise levels")
    return {f"{DENOISER}@{level:g}" if level else DENOISER: trained for level, trained in levels.items()}


def _direct_levels(roles: Iterable[str]) -> list[float]:
    """The noise levels that have a denoiser of their own, rising."""
    return sorted(float(role.partition("@")[2]) for role in roles if "@" in role)


def _description(name: str, networks: Mapping[str, Trained], packing: Packing, *, noise: float) -> dict[str, Any]:
    described: dict[str, dict[str, Any]] = {role: dict(trained.description) for role, trained in networks.items()}
    if packing.borrow is not None:
        described[DENOISER] = {BORROWED: packing.borrow}
    coarser = packing.factor * int(networks[SEGMENTER].record.get("factor", 1))
    if input_spec := {**({"factor": coarser} if coarser > 1 else {}), **({"mirror": True} if packing.mirror else {})}:
        described[SEGMENTER]["input"] = input_spec
    rows, columns = (packing.factor * side for side in packing.grid)
    method, sigma_range = _method(described, factor=packing.factor, noise=noise)
    return {
        "name": name,
        "summary": packing.summary or f"{', '.join(packing.structures)}; {method}",
        "grid": rows if rows == columns else [rows, columns],
        "channels": networks[SEGMENTER].description["channels"],
        "structures": [_structure(label, packing.codes) for label in packing.structures],
        "schedule": {"beta_start": 1e-4, "beta_end": 2e-2, "steps": 1000},
        "sigma_range": sigma_range,
        "denoising": {"method": packing.method or method, "factor": packing.factor},
        "networks": described,
    }


def _method(roles: Iterable[str], *, factor: int, noise: float) -> tuple[Method, list[float]]:
    """What the networks are made for, and the noise levels on the bundle's grid for which they may be asked."""
    if levels := _direct_levels(roles):
        return "direct", [levels[0], levels[-1]]
    if DENOISER in roles:
        return "one-shot", [factor * sigma for sigma in SIGMA_RANGE]
    if not noise:
        raise UsageError("the segmenter was not trained under --noise: give --denoiser FILE or --borrow BUNDLE as well")
    return "segcertify", [round(factor * noise * share, 6) for share in _SEGCERTIFY_RANGE]


def _structure(label: str, codes: Mapping[str, tuple[str, str, str]]) -> dict[str, Any]:
    if label not in codes:
        raise UsageError(f"no code is known for {label!r}: give one as --code {label}=VALUE,SCHEME,MEANING")
    return {"label": label, "code": codes[label], **({"rgb": STRUCTURE_RGB[label]} if label in STRUCTURE_RGB else {})}


def _levels(description: Mapping[str, Any], *, factor: int, noise: float) -> list[float]:
    """The noise levels on the bundle's grid at which thresholds are chosen: the paper's for SegCertify, those that have a denoiser of
    their own, or for a diffusion model those of LEVELS in its range.
    """
    method, (low, high) = description["denoising"]["method"], description["sigma_range"]
    if method == "segcertify":
        return [round(factor * noise * share, 6) for share in _SEGCERTIFY_SHARES]
    if method == "direct":
        return _direct_levels(description["networks"])
    return [level for level in (round(factor * level, 6) for level in LEVELS) if low <= level <= high]
