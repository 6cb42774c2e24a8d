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


@dataclass(frozen=True)
class FilmSet:
    """Films of one or more data sets on the model grid.

    `images` (N, channels, rows, columns) float32 in [0, 1]; `masks` (N, structures, rows, columns) uint8; `known` (N,
    structures) float32, 0 where a data set has no mask of a structure; `names` of the samples.
    """

    images: Tensor
    masks: Tensor
    known: Tensor
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)


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
    return FilmSet(
        images=torch.from_numpy(np.stack([picture.u for picture in pictures]).astype(np.float32)),
        masks=torch.from_numpy(np.stack([picture.masks for picture in pictures]).astype(np.uint8)),
        known=torch.from_numpy(np.stack([picture.known for picture in pictures]).astype(np.float32)),
        names=tuple(sample.name for sample in samples),
    )


def join(sets: list[FilmSet]) -> FilmSet:
    """All films of `sets`, in order."""
    return FilmSet(
        images=torch.cat([s.images for s in sets]),
        masks=torch.cat([s.masks for s in sets]),
        known=torch.cat([s.known for s in sets]),
        names=tuple(name for s in sets for name in s.names),
    )


def spread(films: FilmSet, count: int) -> FilmSet:
    """`count` films, evenly spread over all: neighbours in a data set are often one patient's, or one video's."""
    places = torch.linspace(0, len(films) - 1, min(count, len(films))).round().long()
    names = tuple(films.names[place] for place in places.tolist())
    return FilmSet(images=films.images[places], masks=films.masks[places], known=films.known[places], names=names)
