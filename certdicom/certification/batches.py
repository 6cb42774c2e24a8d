"""The draws of noise on one or many images: in which order they are made, which are in memory together, and what their votes add up to."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.noise import noisy_image
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import Array
from certdicom.errors import BundleError

Image = NDArray[np.float32] | NDArray[np.float64]
"""(channels, H, W), finite."""

_NOISE_THREADS = max(1, (os.cpu_count() or 1) // 2)
"""A thread of its own for the noise where there are few cores, and several where a fast device waits for it."""


@dataclass(frozen=True, eq=False)
class Part:
    """Draws in a row of one image. `image`: its place among those of the run."""

    image: int
    u: Image
    seed: bytes
    draws: range


@dataclass(eq=False)
class Batch:
    """Draws that are in memory together; noisy images stand in the order of the parts."""

    sigma: float
    parts: tuple[Part, ...]
    _drawing: Iterable[NDArray[np.float32]] | None = None

    @cached_property
    def draws(self) -> tuple[tuple[Part, int], ...]:
        """Each draw, with the part that it belongs to."""
        return tuple((part, draw) for part in self.parts for draw in part.draws)

    @cached_property
    def noisy(self) -> NDArray[np.float32]:
        """The noisy images (B, channels, H, W); one and the same array at every call."""
        return np.stack(list(self._drawing or map(self._noisy_image, self.draws)))

    def draw_ahead(self, threads: ThreadPoolExecutor) -> None:
        """Begin to draw the noise in `threads`; `noisy` waits for it."""
        self._drawing = threads.map(self._noisy_image, self.draws)

    def _noisy_image(self, draw: tuple[Part, int]) -> NDArray[np.float32]:
        part, number = draw
        return noisy_image(part.u, self.sigma, seed=part.seed, draw=number)

    def add_up(self, planes: Sequence[Array]) -> list[list[Array]]:
        """Decisions bool (B, H, W) of each plane → for each part, how often each plane was present, (H, W)."""
        ends = np.cumsum([len(part.draws) for part in self.parts])
        return [[plane[end - len(part.draws) : end].sum(0) for plane in planes] for part, end in zip(self.parts, ends, strict=True)]

    def require_finite(self, finite: NDArray[np.bool_]) -> None:
        """BundleError, naming the draw, unless the logits of every draw are finite; `finite` (B,)."""
        if not finite.all():
            _, draw = self.draws[int(np.argmin(finite))]
            raise BundleError(not_finite(f"draw {draw}"))


NOT_FINITE = -(2**20)
"""Votes of a part with logits that are not finite, where a device does not wait to be asked: however many are added, they stay negative."""


def not_finite(where: str) -> str:
    """What is said of logits that are not finite."""
    return (
        f"the networks gave logits that are not finite in {where}: their weights are damaged, or too large for this precision; "
        "try --precision float32, or another bundle"
    )


def ends_of_stages(parameters: SmoothingParameters) -> list[int]:
    """How many draws there are in all after the n0 that select, and at each look."""
    return [parameters.n0, *(parameters.n0 + draws for draws in parameters.planned_looks)]


class DrawingOrder:
    """The draws of all images, stage by stage: selection, then each look; some are made before their turn."""

    def __init__(self, parts: Sequence[Part], parameters: SmoothingParameters) -> None:
        self._parts = parts
        self._made = [0] * len(parts)
        self.ends = ends_of_stages(parameters)

    def wanted(self, stage: int, going: Sequence[bool], *, call: int) -> Iterator[Part]:
        """What the images that go on lack up to the end of a stage, and of later stages as many draws as fill the last call."""
        parts = [part for part, goes_on in zip(self._parts, going, strict=True) if goes_on]
        wanted = [self._next(part, stage, most=self.ends[stage]) for part in parts]
        missing = -sum(len(part.draws) for part in wanted) % call
        yield from (part for part in wanted if part.draws)
        for part in parts:
            for later in range(stage + 1, len(self.ends)):
                extra = self._next(part, later, most=missing)
                missing -= len(extra.draws)
                if extra.draws:
                    yield extra

    def _next(self, part: Part, stage: int, *, most: int) -> Part:
        """At most so many of the draws that come next for an image, up to the end of a stage."""
        made = self._made[part.image]
        draws = range(made, self.ends[stage])[:most]
        self._made[part.image] = made + len(draws)
        return replace(part, draws=draws)


def in_batches(wanted: Iterable[Part], *, sigma: float, size: int) -> Iterator[Batch]:
    """The draws of all parts in order, `size` at a time."""
    together: list[Part] = []
    room = size
    for part in wanted:
        draws = part.draws
        while draws:
            taken, draws = draws[:room], draws[room:]
            together.append(replace(part, draws=taken))
            room -= len(taken)
            if not room:
                yield Batch(sigma, tuple(together))
                together, room = [], size
    if together:
        yield Batch(sigma, tuple(together))


def drawn_ahead(batches: Iterable[Batch]) -> Iterator[Batch]:
    """The batches in order; the noise of the next is drawn in threads of its own while the networks run on this one."""
    with ThreadPoolExecutor(_NOISE_THREADS, thread_name_prefix="certdicom-noise") as threads:
        waiting: Batch | None = None
        for batch in batches:
            batch.draw_ahead(threads)
            if waiting is not None:
                yield waiting
            waiting = batch
        if waiting is not None:
            yield waiting
