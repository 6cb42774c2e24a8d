"""The picture check by itself, over many images: which of them are refused, and why. It needs the n0 draws that select, and no others.

DICOM files go through all that a film goes through before it is certified; other pictures (PNG, JPEG, …) are taken as films
whose header has no window.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.noise import derive_seed
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import select_grid
from certdicom.certification.window import WindowRule
from certdicom.errors import CertdicomError, ImageRefusedError, NoImageError, UsageError, one_line
from certdicom.imaging.resampling import box_average
from certdicom.models.backends.base import Backend
from certdicom.models.bundle import Bundle
from certdicom.research.datasets.layouts.files import PICTURES, PictureFiles
from certdicom.suitability import judge_picture, require_suitable

_KEY = b"certdicom picture check, not a secret"


@dataclass(frozen=True, eq=False)
class PictureVerdict:
    """`outcome`: "accepted", "header" (refused before any draw), "picture" (by what the draws select) or "no image"; `reason`: why,
    or what is unusual; `shown`: the image on the model grid (H, W) in [0, 1], `selected` (structures, H, W), where there were draws.
    """

    path: Path
    outcome: str
    reason: str
    shown: NDArray[np.float64] | None = None
    selected: NDArray[np.bool_] | None = None


class PictureCheck:
    """A bundle's check at one noise level."""

    def __init__(self, bundle: Bundle, backend: Backend, parameters: SmoothingParameters) -> None:
        """UsageError for a bundle that knows no anatomy."""
        if bundle.anatomy is None:
            raise UsageError(f"bundle {bundle.name} judges no picture: it knows no anatomy")
        bundle.require_sigma(parameters.sigma)
        self._bundle, self._parameters = bundle, parameters
        self._segmenter: BaseSegmenter = backend.base_segmenter(bundle, sigma=parameters.sigma)

    def judge(self, path: Path) -> PictureVerdict:
        """The verdict on one file; errors of reading are refusals of the header."""
        try:
            u = self.shown(path)[None]
        except NoImageError as error:
            return PictureVerdict(path, "no image", one_line(error))
        except (CertdicomError, OSError) as error:
            return PictureVerdict(path, "header", one_line(error))
        return self._verdict(path, u)

    def judge_picture(self, name: str, picture: NDArray[np.float64]) -> PictureVerdict:
        """The verdict on a picture (H, W) in [0, 1] of any size, as if a film were shown like that."""
        return self._verdict(Path(name), box_average(picture[None], self._bundle.shape))

    def _verdict(self, path: Path, u: NDArray[np.float64]) -> PictureVerdict:
        seed, _ = derive_seed(_KEY, pixels_sha256=hashlib.sha256(u.tobytes()).digest(), parameters=self._parameters.as_dict())
        selected = select_grid(u, self._segmenter, self._parameters, seed=seed, batch_size=self._parameters.n0)
        try:
            notes = judge_picture(selected, u[0], self._bundle, accept_any=False)
        except ImageRefusedError as refusal:
            return PictureVerdict(path, "picture", one_line(refusal), u[0], selected)
        return PictureVerdict(path, "accepted", "; ".join(notes), u[0], selected)

    def shown(self, path: Path) -> NDArray[np.float64]:
        """A file as the networks see it, (H, W) in [0, 1]. Errors as of reading it."""
        return (self._picture(path) if path.suffix.lower() in PICTURES else self._film(path))[0]

    def _film(self, path: Path) -> NDArray[np.float64]:
        from certdicom.imaging.grid import to_grid
        from certdicom.imaging.reading import read_image

        image = read_image(path)
        require_suitable(image, self._bundle, accept_any=False)
        return to_grid(image, self._bundle.shape, self._bundle.window).u

    def _picture(self, path: Path) -> NDArray[np.float64]:
        read = PictureFiles(path, {}, channels=1)()
        return read.on_grid(
            self._bundle.shape,
            channels=self._bundle.channels,
            structures=[],
            rule=WindowRule("displayed", moments=self._bundle.window.moments),
        ).u


def files_in(places: Iterable[Path]) -> Iterator[Path]:
    """The files that are named, and those in the folders that are; hidden ones are left out."""
    for place in places:
        if place.is_dir():
            yield from (path for path in sorted(place.rglob("*")) if path.is_file() and not path.name.startswith("."))
        else:
            yield place
