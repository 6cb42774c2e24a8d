"""Films with reference masks for training: folders of images and masks, read once into memory.

Layout of a data set: `split.csv` (columns id, split), `images/ID.png`, `masks/STRUCTURE/ID.png`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from certdicom.errors import UsageError

STRUCTURES = ("lungs", "heart", "clavicles")
"""The structures of the chest bundle, in channel order."""

_PARTS = {
    "lungs": ("left_lung", "right_lung"),
    "heart": ("heart",),
    "clavicles": ("left_clavicle", "right_clavicle"),
}


@dataclass(frozen=True)
class FilmSet:
    """Films of one or more data sets on the model grid.

    `images` (N, 1, G, G) float32 in [0, 1]; `masks` (N, structures, G, G) uint8; `known` (N, structures)
    float32, 0 where a data set has no mask of a structure; `names` the file names.
    """

    images: Tensor
    masks: Tensor
    known: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


def percentile_window(image: np.ndarray, low: float = 1.0, high: float = 99.0) -> np.ndarray:
    """`image` with its `low`th and `high`th percentiles mapped to 0 and 1 and clipped, float32."""
    lo, hi = np.percentile(image, [low, high])
    return np.clip((image - lo) / max(hi - lo, 1e-6), 0, 1).astype(np.float32)


def load_films(folder: Path, split: str, *, grid: int) -> FilmSet:
    """The films of one data set that belong to `split` ("train" or "val"), reduced to `grid` by a whole-factor mean."""
    table = folder / "split.csv"
    if not table.is_file():
        raise UsageError(f"no split.csv in {folder}: not a data set folder (images/, masks/, split.csv)")
    with table.open(newline="") as lines:
        names = [row["id"] for row in csv.DictReader(lines) if row["split"] == split]
    images, masks, known = [], [], []
    for name in names:
        path = folder / "images" / f"{name}.png"
        film = Image.open(path).convert("L")
        factor = film.width // grid
        if film.size != (grid * factor, grid * factor):
            raise UsageError(f"{path} is {film.size}, not a whole multiple of {grid} squared")
        images.append(percentile_window(np.asarray(film.reduce(factor), dtype=np.float32)))
        planes = np.zeros((len(STRUCTURES), grid, grid), bool)
        has = np.zeros(len(STRUCTURES), np.float32)
        for index, structure in enumerate(STRUCTURES):
            for part in _PARTS[structure]:
                mask = folder / "masks" / part / f"{name}.png"
                if mask.is_file():
                    planes[index] |= np.asarray(Image.open(mask).convert("L").reduce(factor)) > 127
                    has[index] = 1
        masks.append(planes.astype(np.uint8))
        known.append(has)
    return FilmSet(
        images=torch.from_numpy(np.stack(images)[:, None]),
        masks=torch.from_numpy(np.stack(masks)),
        known=torch.from_numpy(np.stack(known)),
        names=tuple(names),
    )


def join(sets: list[FilmSet]) -> FilmSet:
    """All films of `sets`, in order."""
    return FilmSet(
        images=torch.cat([s.images for s in sets]),
        masks=torch.cat([s.masks for s in sets]),
        known=torch.cat([s.known for s in sets]),
        names=tuple(name for s in sets for name in s.names),
    )


def take(films: FilmSet, count: int) -> FilmSet:
    """The first `count` films."""
    return FilmSet(images=films.images[:count], masks=films.masks[:count], known=films.known[:count], names=films.names[:count])
