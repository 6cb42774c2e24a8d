"""Films with reference masks for training: read once into memory, on the model grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from certdicom.research.datasets.loading import load_dataset
from certdicom.research.datasets.splits import select
from certdicom.research.datasets.structures import match

STRUCTURES = ("lungs", "heart", "clavicles")
"""The structures of the chest bundle, in channel order."""

PSEUDO_WEIGHT = 0.5
"""What a pseudo-label counts beside a mask that a person drew."""

_PLANES = ("images", "masks", "unsure", "weights")


@dataclass(frozen=True)
class FilmSet:
    """Films of one or more data sets on the model grid.

    `images` (N, channels, rows, columns) float32 in [0, 1]; `masks` and `unsure` (N, structures, rows, columns) uint8, 1 in `unsure`
    where a pseudo-label says nothing; `weights` (N, structures) float32: 1 for a mask, PSEUDO_WEIGHT for a pseudo-label, 0 where there is
    neither; `names` of the samples.
    """

    images: Tensor
    masks: Tensor
    unsure: Tensor
    weights: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @property
    def known(self) -> Tensor:
        """Where there is a reference, (N, structures) bool."""
        return self.weights == 1

    def on(self, device: torch.device) -> FilmSet:
        """The same films on a device."""
        return FilmSet(names=self.names, **{name: getattr(self, name).to(device) for name in _PLANES})

    def at(self, places: Tensor) -> FilmSet:
        """The films of these indices (N,), in this order."""
        planes = {name: getattr(self, name)[places] for name in _PLANES}
        return FilmSet(names=tuple(self.names[place] for place in places.tolist()), **planes)


def load_films(
    folder: Path,
    split: str,
    *,
    grid: int | tuple[int, int],
    structures: Sequence[str] = STRUCTURES,
    channels: int = 1,
    listing: Path | None = None,
    seed: int | None = None,
) -> FilmSet:
    """The images of one data set that belong to part `split`, squashed to `grid` (rows, columns; a number: square).

    `listing` and `seed` choose the part as in `datasets.splits.select`. No `structures`: images alone, as denoisers learn from them.
    UsageError when the data set has none of `structures`.
    """
    dataset = load_dataset(folder)
    names = match(structures, dataset.structures, where=str(folder)) if structures else {}
    size = (grid, grid) if isinstance(grid, int) else grid
    samples = select(dataset, split, listing=listing, seed=seed)
    pictures = [
        sample.read().on_grid(size, channels=channels, structures=[names.get(label, "") for label in structures]) for sample in samples
    ]
    unsure = np.stack([picture.unsure for picture in pictures])
    pseudo = np.where(unsure.all((2, 3)), np.float32(0), np.float32(PSEUDO_WEIGHT))
    return FilmSet(
        images=torch.from_numpy(np.stack([picture.u for picture in pictures]).astype(np.float32)),
        masks=torch.from_numpy(np.stack([picture.masks for picture in pictures]).astype(np.uint8)),
        unsure=torch.from_numpy(unsure.astype(np.uint8)),
        weights=torch.from_numpy(np.where([picture.known for picture in pictures], np.float32(1), pseudo)),
        names=tuple(sample.name for sample in samples),
    )


def join(sets: list[FilmSet]) -> FilmSet:
    """All films of `sets`, in order."""
    joined = {name: torch.cat([getattr(s, name) for s in sets]) for name in _PLANES}
    return FilmSet(names=tuple(name for s in sets for name in s.names), **joined)


def spread(films: FilmSet, count: int) -> FilmSet:
    """`count` films, evenly spread over all: neighbours in a data set are often one patient's, or one video's."""
    return films.at(torch.linspace(0, len(films) - 1, min(count, len(films))).round().long())
