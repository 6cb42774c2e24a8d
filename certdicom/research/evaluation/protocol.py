"""Where the noise is drawn and the radius measured: the model's own grid, or the paper's setting around it."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING, Final, Literal

from certdicom.errors import UsageError
from certdicom.research.datasets.structures import structure_of

if TYPE_CHECKING:
    from torch import Tensor

    from certdicom.models.bundle import Bundle
    from certdicom.research.datasets.dataset import Dataset

ProtocolName = Literal["native", "paper"]

PROTOCOLS: Final[tuple[ProtocolName, ...]] = ("native", "paper")

SIGMAS: Final = {"native": (0.072, 0.144, 0.289, 0.5), "paper": (0.25, 0.5, 1.0)}
"""Noise levels of each protocol; the first three of "native" have the native radius of the paper's on gray 512 × 512 films."""

PAPER_GRIDS: Final = {"lesion": (384, 512), "polyp": (288, 384)}
"""Rows and columns of the paper's colour images (Laousy et al. 2023, section 4); its films are 512 × 512."""

_PAPER_FILM: Final = (512, 512)


@dataclass(frozen=True)
class NoiseGrid:
    """The images that noise is added to: `grid` (rows, columns) and `channels`. sigma and R are in its units, [0, 1]."""

    grid: tuple[int, int]
    channels: int


@dataclass(frozen=True)
class NoiseGridAdapter:
    """How a model's images come out of those on the noise grid: the mean of `channels_joined` channels and of `factor` × `factor` pixels.

    Both are means over disjoint sets, so that noise stays independent and Gaussian; the model meets sigma · `shrinks`.
    """

    channels_joined: int
    factor: int

    @property
    def plain(self) -> bool:
        """Whether the images on the noise grid are the model's."""
        return self.channels_joined == self.factor == 1

    @property
    def shrinks(self) -> float:
        """What the standard deviation of the noise is multiplied by on the way to the model."""
        return 1.0 / (self.factor * sqrt(self.channels_joined))

    def to_model(self, images: Tensor) -> Tensor:
        """(B, channels, rows, columns) on the noise grid → the model's images, float32."""
        from certdicom.models.networks.coarse import block_means  # here, because it loads PyTorch

        if self.channels_joined > 1:
            images = images.mean(1, keepdim=True)
        return block_means(images, self.factor)

    def from_model(self, logits: Tensor) -> Tensor:
        """The model's logits → the noise grid's, linear between the centres of the model's pixels."""
        from certdicom.models.networks.coarse import enlarged

        return enlarged(logits, self.factor)


def noise_grid_of(protocol: ProtocolName, bundle: Bundle, dataset: Dataset) -> NoiseGrid:
    """Where `protocol` draws its noise for a model and a data set.

    "native": the model's own grid and channels. "paper": 512 × 512 films, gray repeated to RGB with independent noise in each channel;
    384 × 512 skin lesions and 288 × 384 polyps.
    """
    own = NoiseGrid(bundle.shape, bundle.channels)
    if protocol == "native":
        return own
    if dataset.channels == 1:
        return NoiseGrid(_PAPER_FILM, 3)
    structures = {*dataset.structures, *(structure_of(structure.label) for structure in bundle.structures)}
    return NoiseGrid(next((grid for name, grid in PAPER_GRIDS.items() if name in structures), own.grid), 3)


def adapter_for(noise_grid: NoiseGrid, bundle: Bundle) -> NoiseGridAdapter:
    """How the model of `bundle` is fed from `noise_grid`. UsageError when the noise grid is no whole multiple of the model's grid."""
    grid = bundle.shape
    factor = noise_grid.grid[0] // grid[0]
    if not factor or (grid[0] * factor, grid[1] * factor) != noise_grid.grid:
        raise UsageError(
            f"the noise grid of {noise_grid.grid[0]} × {noise_grid.grid[1]} is no whole multiple of the grid {grid[0]} × {grid[1]} "
            f"of bundle {bundle.name}; "
            "use --protocol native or another bundle"
        )
    if noise_grid.channels == bundle.channels:
        return NoiseGridAdapter(1, factor)
    if bundle.channels != 1:
        raise UsageError(
            f"bundle {bundle.name} takes {bundle.channels} channels and the images have {noise_grid.channels}; use another bundle"
        )
    return NoiseGridAdapter(noise_grid.channels, factor)
