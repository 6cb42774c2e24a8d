"""Whether a bundle, as one of somebody's own networks, can certify: each check with what was seen, or what to fix."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from certdicom.certification.noise import noisy_image
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import Progress
from certdicom.errors import CertdicomError, one_line
from certdicom.imaging.grid import to_grid
from certdicom.imaging.image import SourceImage
from certdicom.imaging.reading import read_image
from certdicom.imaging.synthetic import film_bytes, synthetic_film
from certdicom.models.backends.torch import TorchBackend, load_denoiser, load_network
from certdicom.models.bundle import Bundle, load_bundle
from certdicom.models.description import SEGMENTER
from certdicom.outputs.result import Result
from certdicom.pipeline import Certifier, Computation

_SEED = b"a check of a bundle, not a secret"
_NEARLY_ALL = 0.98
"""Where this share of the film abstains, the segmenter was not made for such noise."""


@dataclass(frozen=True)
class BundleCheck:
    """One check: its name, whether it held, what was seen or is to be done; `result`: of the film that was certified."""

    name: str
    passed: bool
    detail: str
    result: Result | None = None


def check_bundle(
    name_or_folder: str | Path,
    *,
    film: Path | None = None,
    sigma: float | None = None,
    device: str = "auto",
    progress: Progress | None = None,
) -> Iterator[BundleCheck]:
    """All checks, one after the other, until one fails. UnreadableError or ImageRefusedError when `film` cannot be certified."""
    image = read_image(film_bytes(synthetic_film(rows=1280, columns=1024, seed=1)[0]) if film is None else film, accept_any=True)
    try:
        bundle = load_bundle(name_or_folder)
        yield BundleCheck("description", True, f"{bundle!r}")
        yield BundleCheck("files", True, _files(bundle))
        yield BundleCheck("segmenter", True, _segmenter(bundle))
        level = bundle.nearest_sigma(SmoothingParameters.sigma) if sigma is None else sigma
        noisy = _noisy(bundle, image, level)
        yield _one_function(bundle, noisy, sigma=level, device=device)
        if set(bundle.networks) != {SEGMENTER}:
            yield _denoiser(bundle, image, noisy, sigma=level)
        yield _certified(bundle, image, sigma=level, device=device, progress=progress)
    except CertdicomError as error:
        yield BundleCheck("fix this first", False, one_line(error))


def _files(bundle: Bundle) -> str:
    sizes = {role: sum(map(len, bundle.files(role).values())) for role in bundle.networks}
    return ", ".join(f"{role} {size / 1e6:.1f} MB" for role, size in sizes.items()) + ", as their digests say"


def _segmenter(bundle: Bundle) -> str:
    load_network(bundle, SEGMENTER)  # refuses what is no fixed function, gives another shape, or no logits
    labels = ", ".join(structure.label for structure in bundle.structures)
    return f"finite logits of {labels} on {bundle.shape[0]} × {bundle.shape[1]}, the same ones twice"


def _noisy(bundle: Bundle, image: SourceImage, sigma: float) -> np.ndarray:
    """Three noisy images (3, channels, H, W) float32 of the film on the bundle's grid."""
    u = to_grid(image, bundle.shape, bundle.window).u
    u = np.concatenate([u] * (bundle.channels // len(u))) if len(u) < bundle.channels else u
    return np.stack([noisy_image(u, sigma, seed=_SEED, draw=draw) for draw in range(3)])


def _one_function(bundle: Bundle, noisy: np.ndarray, *, sigma: float, device: str) -> BundleCheck:
    segmenter = TorchBackend(device=device, precision="float32").base_segmenter(bundle, sigma=sigma)
    together, alone = segmenter.logits(noisy), segmenter.logits(noisy[2:].copy())
    same = np.array_equal(together[2:], alone)
    detail = (
        f"bit-equal logits alone and beside other images, from {together.min():.3g} to {together.max():.3g} at sigma {sigma:g}"
        if same
        else "its logits of an image depend on the images beside it: no layer may look across the batch (batch norms in training mode do)"
    )
    return BundleCheck("one fixed function", same, detail)


def _denoiser(bundle: Bundle, image: SourceImage, noisy: np.ndarray, *, sigma: float) -> BundleCheck:
    import torch

    denoise = load_denoiser(bundle, sigma=sigma, device=torch.device("cpu"), precision="float32")
    clean = denoise(torch.from_numpy(noisy[:1])).numpy()
    error = float(np.sqrt(np.mean((clean - to_grid(image, bundle.shape, bundle.window).u) ** 2)))
    if not np.isfinite(error) or error >= sigma:
        return BundleCheck(
            "denoiser",
            False,
            f"what it gives differs from the film by {error:.3g} (RMSE), no less than the noise of {sigma:g}: schedule, prediction or the "
            "scale of its images are not those that it was trained with",
        )
    return BundleCheck("denoiser", True, f"RMSE to the film {error:.3f} where the noise is {sigma:g}")


def _certified(bundle: Bundle, image: SourceImage, *, sigma: float, device: str, progress: Progress | None) -> BundleCheck:
    certifier = Certifier(bundle, SmoothingParameters(sigma=sigma), Computation(device=device, precision="float32", site_key=_SEED))
    result = certifier.certify(image, accept_any=True, progress=progress)
    shares = ", ".join(f"{label} {result.mask(label).mean():.1%}" for label in result.structures)
    seen = f"{shares} certified present, {result.abstain_fraction:.1%} abstained at sigma {sigma:g}"
    if result.abstain_fraction > _NEARLY_ALL:
        return BundleCheck(
            "one film", False, f"{seen}: train the segmenter under this noise, or put a denoiser before it (docs/models.md)", result
        )
    return BundleCheck("one film", True, seen, result)
