"""Bundles: networks, what they expect, and what may be said of them. Reading one needs no torch.

A bundle is a folder:

    bundle.json               name, grid, structures, schedule, noise range, network descriptions, SHA-256 of each weight file
    segmenter.safetensors     float16 weights
    denoiser.safetensors
    MODEL_CARD.md             data and their terms, recipe, scores, limits
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from certdicom.certification.certificate import Structure
from certdicom.certification.schedule import LinearSchedule
from certdicom.errors import BundleError
from certdicom.models.plausibility import AnatomyModel

DEFAULT_BUNDLE = "cxr-gray-256"
DESCRIPTION = "bundle.json"
_SHIPPED = Path(__file__).resolve().parent.parent / "bundles"
_FORMAT = 1


@dataclass(frozen=True, eq=False)
class Bundle:
    """A segmenter, a denoiser and everything that must be known to use them; weights stay on disk until they are needed.

    `grid`: rows and columns of the model grid; `channels`: 1 for gray; `structures` in channel order; `sigma_range`: noise
    levels that the networks were trained for; `thresholds`: (sigma, logits above which each structure is present) pairs, rising in
    sigma; `networks`: the description of each network by role; `sha256`: hex digest over
    bundle.json, which holds the digests of the weights; `anatomy`: what a plausible selection looks like, or None.
    """

    name: str
    folder: Path
    sha256: str
    grid: int
    channels: int
    structures: tuple[Structure, ...]
    schedule: LinearSchedule
    sigma_range: tuple[float, float]
    thresholds: tuple[tuple[float, tuple[float, ...]], ...]
    networks: Mapping[str, Mapping[str, Any]]
    weights_sha256: Mapping[str, str]
    anatomy: AnatomyModel | None
    summary: str

    @property
    def hypotheses(self) -> int:
        """K of an image: structures × grid × grid."""
        return len(self.structures) * self.grid**2

    def threshold(self, sigma: float) -> tuple[float, ...]:
        """Each structure's logit threshold at `sigma`: linear between the bundle's pairs, constant beyond them, 0 without any."""
        if not self.thresholds:
            return (0.0,) * len(self.structures)
        sigmas, logits = zip(*self.thresholds, strict=True)
        return tuple(float(np.interp(sigma, sigmas, of_structure)) for of_structure in zip(*logits, strict=True))

    def require_sigma(self, sigma: float) -> None:
        """Raise BundleError when `sigma` is outside what the networks were trained for."""
        low, high = self.sigma_range
        if not low <= sigma <= high:
            raise BundleError(f"sigma = {sigma:g} is outside {low:g} … {high:g}, the noise levels that bundle {self.name} was trained for")

    def weights(self, role: str) -> bytes:
        """The weight file of "segmenter" or "denoiser", its digest checked. BundleError when missing or damaged."""
        path = self.folder / f"{role}.safetensors"
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BundleError(f"cannot read the weights {path}: {error.strerror}; reinstall the bundle {self.name}") from error
        if hashlib.sha256(content).hexdigest() != self.weights_sha256[role]:
            raise BundleError(
                f"the weights {path} are damaged: their SHA-256 is not the one in {DESCRIPTION}; reinstall the bundle {self.name}"
            )
        return content


def shipped_bundles() -> tuple[str, ...]:
    """Names of the bundles that come with this installation."""
    return tuple(sorted(entry.parent.name for entry in _SHIPPED.glob(f"*/{DESCRIPTION}")))


def load_bundle(name_or_folder: str | Path = DEFAULT_BUNDLE) -> Bundle:
    """The shipped bundle of that name, or the bundle in that folder. BundleError when there is none or it is damaged."""
    folder = _SHIPPED / str(name_or_folder) if str(name_or_folder) in shipped_bundles() else Path(name_or_folder)
    path = folder / DESCRIPTION
    try:
        content = path.read_bytes()
    except OSError as error:
        known = ", ".join(shipped_bundles()) or "none"
        raise BundleError(f"no bundle {str(name_or_folder)!r}: shipped are {known}; or give a folder that holds {DESCRIPTION}") from error
    try:
        return _parse(json.loads(content), folder=folder, sha256=hashlib.sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise BundleError(f"{path} is not a bundle description that this version reads: {type(error).__name__} {error}") from error


def _parse(fields: Any, *, folder: Path, sha256: str) -> Bundle:
    if fields["format"] != _FORMAT:
        raise ValueError(f"format {fields['format']!r}, this version reads {_FORMAT}")
    low, high = fields["sigma_range"]
    bundle = Bundle(
        name=str(fields["name"]),
        folder=folder,
        sha256=sha256,
        grid=int(fields["grid"]),
        channels=int(fields["channels"]),
        structures=tuple(_structure(entry) for entry in fields["structures"]),
        schedule=LinearSchedule(**fields["schedule"]),
        sigma_range=(float(low), float(high)),
        thresholds=tuple(_threshold(*pair, structures=len(fields["structures"])) for pair in fields.get("thresholds", ())),
        networks=dict(fields["networks"]),
        weights_sha256={role: str(digest) for role, digest in fields["weights_sha256"].items()},
        anatomy=AnatomyModel.from_dict(fields["anatomy"]) if fields.get("anatomy") else None,
        summary=str(fields["summary"]),
    )
    if set(bundle.networks) != {"segmenter", "denoiser"} or set(bundle.weights_sha256) != set(bundle.networks):
        raise ValueError("networks and weights_sha256 must each name segmenter and denoiser")
    return bundle


def _threshold(sigma: Any, logits: Any, *, structures: int) -> tuple[float, tuple[float, ...]]:
    """One number stands for all structures."""
    values = tuple(map(float, logits)) if isinstance(logits, list) else (float(logits),) * structures
    if len(values) != structures:
        raise ValueError(f"{len(values)} thresholds at sigma {sigma} for {structures} structures")
    return float(sigma), values


def _structure(entry: Mapping[str, Any]) -> Structure:
    value, scheme, meaning = entry["code"]
    red, green, blue = entry["rgb"]
    return Structure(label=str(entry["label"]), code=(str(value), str(scheme), str(meaning)), rgb=(int(red), int(green), int(blue)))
