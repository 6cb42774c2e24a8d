"""The preprocessing as MONAI transforms: from an image to the model grid and back, bit for bit what `imaging.grid` does.

Importing this module imports MONAI, which loads all of its packages whatever part is asked for (about 3 s of CPU time).
Nothing that certifies needs it; data sets, training and `Result.to_metatensor` do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from monai.data.meta_tensor import MetaTensor
from monai.transforms.compose import Compose
from monai.transforms.inverse import InvertibleTransform
from monai.transforms.transform import Transform
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.window import Moments
from certdicom.errors import UsageError
from certdicom.imaging.grid import counted_cells, show_displayed
from certdicom.imaging.rendering import Levels, Rendering
from certdicom.imaging.resampling import Grid, box_average, cells, grid_shape


class RenderStored(Transform):  # type: ignore[misc]  # MONAI has no types
    """Stored values (channels, rows, columns) → what may be averaged: `Rendering.before_averaging`, or the `Levels` themselves."""

    def __init__(self, rendering: Rendering | Levels) -> None:
        self.rendering = rendering

    def __call__(self, data: Tensor) -> MetaTensor:
        stored = np.asarray(data)
        levels = self.rendering.of(stored) if isinstance(self.rendering, Levels) else self.rendering.before_averaging(stored)
        return MetaTensor(torch.from_numpy(np.asarray(levels, dtype=np.float64)))


class SquashToGrid(InvertibleTransform):  # type: ignore[misc]  # MONAI has no types
    """Box averaging of (channels, rows, columns) to (channels, H, W) float64: u = A_r · X · A_cᵀ.

    `inverse` gives each stored pixel the value of the grid cell that holds its centre, which is how a decision map
    goes back to the film; it works on any dtype.
    """

    def __init__(self, grid: Grid) -> None:
        self.grid = grid_shape(grid)

    def __call__(self, data: Tensor) -> MetaTensor:
        film = data if isinstance(data, MetaTensor) else MetaTensor(data)
        averages = torch.from_numpy(box_average(film.as_tensor().numpy(), self.grid))
        squashed = MetaTensor(averages, meta=film.meta, applied_operations=film.applied_operations)
        self.push_transform(squashed, orig_size=tuple(film.shape[-2:]), extra_info={"grid": self.grid})
        return squashed

    def inverse(self, data: Tensor) -> MetaTensor:
        if not isinstance(data, MetaTensor):
            raise UsageError("only a map that carries what was applied can be inverted; use certdicom.imaging.grid.to_film")
        record: dict[str, Any] = self.pop_transform(data)
        rows, columns = record["orig_size"]
        return MetaTensor(
            spread(data.as_tensor(), rows=int(rows), columns=int(columns)),
            meta=data.meta,
            applied_operations=data.applied_operations,
        )


class ShowWindow(Transform):  # type: ignore[misc]  # MONAI has no types
    """Averages → u in [0, 1] (`Rendering.after_averaging`): the window, clipping and polarity."""

    def __init__(self, rendering: Rendering) -> None:
        self.rendering = rendering

    def __call__(self, data: MetaTensor) -> MetaTensor:
        shown = torch.from_numpy(self.rendering.after_averaging(data.as_tensor().numpy()))
        return MetaTensor(shown, meta=data.meta, applied_operations=data.applied_operations)


class DisplayedWindow(Transform):  # type: ignore[misc]  # MONAI has no types
    """Averages → u in [0, 1] by their displayed window (`grid.show_displayed`)."""

    def __init__(self, levels: Levels, *, moments: Moments, grid: Grid) -> None:
        self.levels, self.moments, self.counted = levels, moments, counted_cells(levels, grid_shape(grid))

    def __call__(self, data: MetaTensor) -> MetaTensor:
        _, u = show_displayed(data.as_tensor().numpy(), self.levels, moments=self.moments, counted=self.counted)
        return MetaTensor(torch.from_numpy(u), meta=data.meta, applied_operations=data.applied_operations)


def spread(decisions: Tensor, *, rows: int, columns: int) -> Tensor:
    """(…, H, W) → (…, rows, columns): each stored pixel takes the value of the cell that holds its centre."""
    down = torch.from_numpy(cells(rows, decisions.shape[-2]))
    across = torch.from_numpy(cells(columns, decisions.shape[-1]))
    return decisions[..., down[:, None], across[None, :]]


def image_to_grid(rendering: Rendering | Levels, *, grid: Grid, moments: Moments | None = None) -> Compose:
    """Stored values (channels, rows, columns) → u (channels, H, W); its `.inverse` takes a decision map back to the image.

    By a rendering that is fixed, or by the displayed window of levels.
    """
    if isinstance(rendering, Levels):
        return Compose([RenderStored(rendering), SquashToGrid(grid), DisplayedWindow(rendering, moments=moments or Moments(), grid=grid)])
    return Compose([RenderStored(rendering), SquashToGrid(grid), ShowWindow(rendering)])


def decisions_tensor(decisions: NDArray[np.uint8], *, spacing: tuple[float, float], structures: tuple[str, ...]) -> MetaTensor:
    """Decisions (structures, rows, columns) as a tensor with its affine; `spacing` (row, column) in mm, `structures` their labels."""
    affine = torch.diag(torch.tensor([*spacing, 1.0, 1.0], dtype=torch.float64))
    return MetaTensor(torch.from_numpy(decisions.copy()), affine=affine, meta={"structures": structures})
