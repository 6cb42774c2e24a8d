"""What is decided in every draw and tested about an image: at each pixel, each structure, and after them each union of structures.

The same code serves NumPy arrays and tensors on any device: it uses nothing but comparisons, subtraction, `&` and `|`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_, or_

import numpy as np

from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import Array, require_attainable
from certdicom.errors import UsageError


@dataclass(frozen=True)
class Hypotheses:
    """The family of one image. Structures may overlap, whatever the network: each is present or absent by itself.

    `unions`: structure indices of each, whose hypothesis is that any of them is present. UsageError for a structure that there is not.
    """

    structures: int
    unions: tuple[tuple[int, ...], ...] = ()

    def __post_init__(self) -> None:
        unknown = [index for members in self.unions for index in members if index >= self.structures]
        if unknown:
            raise UsageError(f"unions must name structures 0 … {self.structures - 1}, not {unknown[0]}")

    def count(self, cells: int) -> int:
        """K: how many decisions are tested in one family on a grid of `cells` pixels."""
        return (self.structures + len(self.unions)) * cells

    def require_certifiable(self, parameters: SmoothingParameters, *, cells: int) -> None:
        """Raise UsageError when a look could certify nothing on a grid of `cells` pixels; the first look has the fewest draws."""
        require_attainable(n=parameters.planned_looks[0], hypotheses=self.count(cells), tau=parameters.tau, alpha=parameters.look_alpha)

    def with_unions(self, present: Sequence[Array]) -> list[Array]:
        """Decisions of each structure, bool (B, H, W), and after them whether any member of each union is present."""
        return [*present, *(reduce(or_, (present[index] for index in members)) for members in self.unions)]


def decide(logits: Array, *, thresholds: Sequence[float], exclusive: bool = False) -> list[Array]:
    """Logits → the decisions of each structure, bool (B, H, W).

    `logits` (B, structures, H, W) float32, a structure being present above its threshold; or, `exclusive` (softmax), (B, 1 + structures,
    H, W) with the background first, a structure being present where its logit exceeds **every** other class's by more than its threshold.
    """
    levels = [float(np.float32(threshold)) for threshold in thresholds]
    if not exclusive:
        return [logits[:, index] > level for index, level in enumerate(levels)]
    classes = range(logits.shape[1])
    return [
        reduce(and_, (logits[:, own] - logits[:, other] > level for other in classes if other != own))
        for own, level in enumerate(levels, start=1)
    ]
