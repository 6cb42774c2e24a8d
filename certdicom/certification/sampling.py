"""The sampler: the one loop that draws, selects, counts and looks, for any number of images and base segmenters.

SegCertify with Holm's correction (Fischer et al., ICML 2021, Algorithm 2; Laousy et al., MICCAI 2023) and, where asked for, several looks
and unions of structures. NumPy alone: what runs the networks stands behind `BaseSegmenter`.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, UnionLayer
from certdicom.certification.hypotheses import Hypotheses, decide
from certdicom.certification.looks import LookByLook
from certdicom.certification.noise import noisy_image
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.rounding import rounded_down
from certdicom.certification.statistics import Array
from certdicom.errors import BundleError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.float32] | NDArray[np.float64]
"""(channels, H, W), finite."""

Decide = Callable[[Any], Any]
"""Noisy images (B, channels, H, W) float32 → bool (B, structures, H, W), arrays or tensors. One fixed function."""

Progress = Callable[[int, int], None]
"""Called with (draws done, draws in all) after every batch."""

_NOISE_THREADS = max(1, (os.cpu_count() or 1) // 2)
"""A thread of its own for the noise where there are few cores, and several where a fast device waits for it."""


@dataclass(frozen=True, eq=False, repr=False)
class GridResult:
    """What was decided at every structure and pixel, arrays of shape (structures, H, W).

    `decisions` uint8 of 0 absent, 1 present, 2 abstain; `counts` int32, votes among `draws` for the selected decision;
    `selected` bool, the decision that n0 draws selected; `draws`: n, or the look at which the test stopped; `parameters`: what was asked
    for; `unions`: the same about the unions of structures that the parameters name, None where they name none.
    """

    decisions: NDArray[np.uint8]
    counts: NDArray[np.int32]
    selected: NDArray[np.bool_]
    draws: int
    parameters: SmoothingParameters
    unions: UnionLayer | None = None

    def __repr__(self) -> str:
        structures, rows, columns = self.decisions.shape
        shape = f"{structures} structures, {rows} × {columns}"
        return f"GridResult({shape}; R = {rounded_down(self.radius)}, {self.abstain_fraction:.1%} abstained)"

    @property
    def radius(self) -> float:
        """Certified L2 radius of every decision that is not ABSTAIN."""
        return self.parameters.radius

    @property
    def abstain_fraction(self) -> float:
        """Share of pixels at which at least one structure's decision is not certified."""
        return float((self.decisions == ABSTAIN).any(axis=0).mean())


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


def not_finite(where: str) -> str:
    """What is said of logits that are not finite."""
    return (
        f"the networks gave logits that are not finite in {where}: their weights are damaged, or too large for this precision; "
        "try --precision float32, or another bundle"
    )


NOT_FINITE = -(2**20)
"""Votes of a part with logits that are not finite, where a device does not wait to be asked: however many are added, they stay negative."""


class VoteCounter(Protocol):
    """A base segmenter as the loop asks it: how often each structure and union was present in each part of a batch."""

    @property
    def structures(self) -> int | None:
        """How many structures it decides about; None where only its first answer will tell."""

    @property
    def images_a_call(self) -> int:
        """How many images its networks are always called with; batches are made whole multiples of it."""

    @property
    def draws_itself(self) -> bool:
        """Whether it draws a batch's noise where it computes, so that nobody need draw it here beforehand."""

    def count(self, batch: Batch, unions: tuple[tuple[int, ...], ...]) -> Array:
        """(parts, structures + unions, H, W) int32, unions last; an array, or a tensor where it was counted.

        BundleError, or NOT_FINITE in the whole part, for logits that are not finite.
        """


@dataclass(frozen=True, eq=False)
class BaseSegmenter:
    """The port to what runs networks: one fixed function from noisy images to logits, and how logits become decisions.

    `logits`: noisy images (B, channels, H, W) float32 → (B, structures, H, W) float32, or for an `exclusive` (softmax) network
    (B, 1 + structures, H, W) with the background first. What it says of an image must depend on neither the others in the batch nor their
    number: whoever implements it fixes the shape of its calls, `images_a_call`. `count_where_computed`: the same votes, if a device
    can draw and count where it computes: given a batch, and a function from logits on the device to planes of decisions there.
    """

    logits: Callable[[NDArray[np.float32]], NDArray[np.float32]]
    thresholds: tuple[float, ...]
    exclusive: bool = False
    count_where_computed: Callable[[Batch, Callable[[Array], list[Array]]], Array] | None = None
    images_a_call: int = 1

    @property
    def structures(self) -> int:
        return len(self.thresholds)

    @property
    def draws_itself(self) -> bool:
        return self.count_where_computed is not None

    def decide(self, logits: Array) -> list[Array]:
        """The decisions of each structure, bool (B, H, W). BundleError for another number of logits."""
        if logits.shape[1] != self.structures + self.exclusive:
            raise BundleError(f"the networks gave {logits.shape[1]} logits a pixel and not {self.structures + self.exclusive}")
        return decide(logits, thresholds=self.thresholds, exclusive=self.exclusive)

    def decide_image(self, u: Image) -> NDArray[np.bool_]:
        """The decisions on an image itself, without noise: bool (structures, H, W). BundleError for logits that are not finite."""
        logits = self.logits(np.asarray(u, np.float32)[np.newaxis])
        if not np.isfinite(logits).all():
            raise BundleError("the networks gave logits that are not finite for an image without noise: their weights are damaged")
        return np.concatenate(self.decide(logits))

    def count(self, batch: Batch, unions: tuple[tuple[int, ...], ...]) -> Array:
        hypotheses = Hypotheses(self.structures, unions)

        def planes(logits: Array) -> list[Array]:
            return hypotheses.with_unions(self.decide(logits))

        if self.count_where_computed is not None:
            return self.count_where_computed(batch, planes)
        logits = self.logits(batch.noisy)
        batch.require_finite(np.asarray(np.isfinite(logits).all(axis=(1, 2, 3))))
        return np.array(batch.add_up(planes(logits)), np.int32)


def certify_grids(
    images: Sequence[Image],
    segmenters: Sequence[VoteCounter],
    parameters: Sequence[SmoothingParameters],
    *,
    seeds: Sequence[bytes],
    batch_size: int,
    after_selection: Callable[[NDArray[np.bool_]], None] | None = None,
    progress: Progress | None = None,
) -> list[list[GridResult]]:
    """What every segmenter decides about every image: one list an image.

    `images` of one shape; `parameters`: of each segmenter, alike but for the unions. Draw `d` of image `i` is the noise of `seeds[i]` and
    `d` (`noise.derive_seed`), the same for all segmenters. The first n0 draws select, the following ones test, look by look; an image
    and segmenter that have stopped at a look count no more, and draws go on until all have stopped. `batch_size`: how many draws are in
    memory at once, made whole calls of all segmenters' networks, and as many again whose noise is drawn ahead; it changes no bit.
    A call that draws of all images leave unfilled takes draws whose turn is later. `after_selection` sees each selected decision,
    bool (structures, H, W), before the long count and may raise. UsageError for parameters under which nothing can be certified,
    BundleError for logits that are not finite; nothing is returned then.
    """
    if batch_size < 1:
        raise UsageError(f"batch size must be at least 1, not {batch_size}")
    shared = parameters[0]
    if any(replace(own, unions=()) != replace(shared, unions=()) for own in parameters):
        raise UsageError("base segmenters that share their draws must be asked for the same parameters, unions apart")
    checked = [_checked_image(u) for u in images]
    families = [[_Family(segmenter, own, u.shape) for segmenter, own in zip(segmenters, parameters, strict=True)] for u in checked]
    row = _Row([Part(index, u, seed, range(0)) for index, (u, seed) in enumerate(zip(checked, seeds, strict=True))], shared)
    call = math.lcm(*(segmenter.images_a_call for segmenter in segmenters))
    done = 0
    for stage, end in enumerate(row.ends):
        going = [any(family.goes_on for family in of_image) for of_image in families]
        batches = _batches(row.wanted(stage, going, call=call), sigma=shared.sigma, size=-(-batch_size // call) * call)
        for batch in _drawn_ahead(batches, segmenters):
            for segmenter, asked in zip(segmenters, zip(*(families[part.image] for part in batch.parts), strict=True), strict=True):
                _count(batch, segmenter, asked)
            done += len(batch.draws)
            if progress is not None:
                progress(done, len(images) * row.ends[-1])
        for family in (family for of_image in families for family in of_image if family.goes_on):
            if stage == 0:
                family.select(after_selection)
            else:
                family.look(end - shared.n0)
    return [[family.result() for family in of_image] for of_image in families]


def select_grid(u: Image, segmenter: VoteCounter, parameters: SmoothingParameters, *, seed: bytes, batch_size: int) -> NDArray[np.bool_]:
    """What the first n0 draws select, bool (structures, H, W), as at the beginning of `certify_grids`; nothing is certified."""
    image = _checked_image(u)
    selected: list[NDArray[np.bool_]] = []
    family = _Family(segmenter, parameters, image.shape)
    first = _batches([Part(0, image, seed, range(parameters.n0))], sigma=parameters.sigma, size=batch_size)
    for batch in _drawn_ahead(first, [segmenter]):
        _count(batch, segmenter, [family])
    family.select(selected.append)
    return selected[0]


def _count(batch: Batch, segmenter: VoteCounter, families: Sequence[_Family]) -> None:
    """Count a batch for one segmenter, unless it has stopped for all of its images; `families`: of each part."""
    if any(family.goes_on for family in families):
        for part, family, present in zip(batch.parts, families, segmenter.count(batch, families[0].unions), strict=True):
            family.add(part.draws, present)


def certify_grid(
    u: Image | Tensor,
    decide: Decide,
    parameters: SmoothingParameters,
    *,
    seed: bytes,
    batch_size: int = 16,
    structures: int | None = None,
    arrays: Literal["torch", "numpy"] = "torch",
    after_selection: Callable[[NDArray[np.bool_]], None] | None = None,
    progress: Progress | None = None,
) -> GridResult:
    """Certify every decision that `decide` takes on `u` with noise of `parameters.sigma`.

    `u`: (channels, H, W) float32 or float64, an array or a tensor; `seed`: secret bytes, see `noise.derive_seed`; `decide` gets torch
    tensors on the device of `u`, or with `arrays="numpy"` arrays, and may return either. Every batch that it gets has exactly
    `batch_size` images (the last is filled up and the surplus dropped), so that it runs the same kernels in every
    draw. `after_selection` sees the selected decisions, bool (structures, H, W), before the long count and may raise.
    It stops at a look after which too little abstains to go on, or no further look could certify anything.
    UsageError for parameters under which nothing can be certified: before the first draw when `structures` is given,
    otherwise after the first batch.
    """
    if arrays not in ("torch", "numpy"):
        raise UsageError(f"arrays must be 'torch' or 'numpy', not {arrays!r}")
    function = _DecisionFunction(
        decide=decide, batch_size=batch_size, structures=structures, arrays=arrays, device=getattr(u, "device", "cpu")
    )
    ((result,),) = certify_grids(
        [_as_numpy(u)], [function], [parameters], seeds=[seed], batch_size=batch_size, after_selection=after_selection, progress=progress
    )
    return result


@dataclass(frozen=True, eq=False, kw_only=True)
class _DecisionFunction:
    """Anybody's function from noisy images to decisions, called with `batch_size` images every time."""

    decide: Decide
    batch_size: int
    structures: int | None
    arrays: Literal["torch", "numpy"]
    device: Any
    images_a_call: int = 1
    draws_itself: bool = False

    def count(self, batch: Batch, unions: tuple[tuple[int, ...], ...]) -> NDArray[np.int32]:
        noisy = batch.noisy
        if len(noisy) < self.batch_size:
            noisy = np.concatenate([noisy, np.broadcast_to(noisy[:1], (self.batch_size - len(noisy), *noisy.shape[1:]))])
        decisions = _as_numpy(self.decide(self._given(noisy)))
        if decisions.dtype != np.bool_ or decisions.ndim != 4 or len(decisions) != self.batch_size:
            raise UsageError(f"decide must return bool (B, structures, H, W), not {decisions.dtype} {decisions.shape}")
        present = [decisions[: len(batch.draws), index] for index in range(decisions.shape[1])]
        return np.array(batch.add_up(Hypotheses(len(present), unions).with_unions(present)), np.int32)

    def _given(self, noisy: NDArray[np.float32]) -> Any:
        if self.arrays == "numpy":
            return noisy
        import torch  # the one place where the mathematics meets it, and only for who asks

        return torch.from_numpy(noisy).to(self.device)


def _as_numpy(values: Any) -> NDArray[Any]:
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)


def decisions_of(selected: NDArray[np.bool_], certified: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The selected decisions where they are certified, ABSTAIN elsewhere."""
    return np.where(certified, np.where(selected, PRESENT, ABSENT), ABSTAIN).astype(np.uint8)


def _checked_image(u: NDArray[Any]) -> Image:
    if u.dtype not in (np.float32, np.float64) or u.ndim != 3:
        raise UsageError(f"u must be float32 or float64 of shape (channels, H, W), not {u.dtype} of shape {tuple(u.shape)}")
    if not np.isfinite(u).all():
        raise UsageError("u holds values that are not finite")
    return u


def _ends(parameters: SmoothingParameters) -> list[int]:
    """How many draws there are in all after the n0 that select, and at each look."""
    return [parameters.n0, *(parameters.n0 + draws for draws in parameters.planned_looks)]


class _Row:
    """The draws of all images, stage by stage: selection, then each look; some are made before their turn."""

    def __init__(self, parts: Sequence[Part], parameters: SmoothingParameters) -> None:
        self._parts = parts
        self._made = [0] * len(parts)
        self.ends = _ends(parameters)

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


def _batches(wanted: Iterable[Part], *, sigma: float, size: int) -> Iterator[Batch]:
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


def _drawn_ahead(batches: Iterable[Batch], segmenters: Sequence[VoteCounter]) -> Iterator[Batch]:
    """The batches in order; the noise of the next is drawn in threads of its own while the networks run on this one.

    Nothing is drawn where all segmenters do that themselves.
    """
    if all(segmenter.draws_itself for segmenter in segmenters):
        yield from batches
        return
    with ThreadPoolExecutor(_NOISE_THREADS, thread_name_prefix="certdicom-noise") as threads:
        waiting: Batch | None = None
        for batch in batches:
            batch.draw_ahead(threads)
            if waiting is not None:
                yield waiting
            waiting = batch
        if waiting is not None:
            yield waiting


class _Family:
    """One segmenter's hypotheses about one image: running counts, what was selected, what is certified so far."""

    _present: Array
    _selected: Array
    _structures: int
    _test: LookByLook

    def __init__(self, segmenter: VoteCounter, parameters: SmoothingParameters, shape: tuple[int, ...]) -> None:
        self._parameters = parameters
        self.unions = parameters.unions
        self._cells = shape[-2] * shape[-1]
        self._ends = _ends(parameters)
        self._votes: dict[int, Array] = {}
        self._started = False
        self.goes_on = True
        if segmenter.structures is not None:
            self._require_certifiable(segmenter.structures)

    def _require_certifiable(self, structures: int) -> None:
        Hypotheses(structures, self.unions).require_certifiable(self._parameters, cells=self._cells)
        self._test = LookByLook(self._parameters, structures=structures)
        self._structures = structures

    def add(self, draws: range, present: Array) -> None:
        """Count how often each plane was present in draws of one stage, unless the test has stopped."""
        if not self.goes_on:
            return
        if not self._started:
            self._require_certifiable(len(present) - len(self.unions))
            self._started = True
        stage = bisect_right(self._ends, draws.start)
        self._votes[stage] = self._votes[stage] + present if stage in self._votes else present

    def select(self, after_selection: Callable[[NDArray[np.bool_]], None] | None) -> None:
        """Take the majority of the n0 draws; what has selected is never counted again."""
        present = self._votes_of(0)
        self._selected = 2 * present > self._parameters.n0  # a tie goes to "absent"
        self._present = 0 * present
        if after_selection is not None:
            after_selection(_as_numpy(self._selected[: self._structures]))

    def look(self, draws: int) -> None:
        """Test on the votes of `draws` fresh draws."""
        self._present = self._present + self._votes_of(bisect_right(self._ends, self._parameters.n0 + draws - 1))
        counts = self._present * self._selected + (draws - self._present) * ~self._selected
        self.goes_on = not self._test.look(counts, n=draws)

    def _votes_of(self, stage: int) -> Array:
        """BundleError where logits were not finite."""
        votes = self._votes.pop(stage)
        if int(votes.min()) < 0:
            raise BundleError(not_finite(f"one of the draws {self._ends[stage - 1] if stage else 0} to {self._ends[stage] - 1}"))
        return votes

    def result(self) -> GridResult:
        test, leaves = self._test, self._structures
        packed = _as_numpy((test.counts * 2 + self._selected) * 2 + test.certified)  # so that one array leaves the device
        counts, selected, certified = packed >> 2, packed & 2 > 0, packed & 1 > 0
        decisions = decisions_of(selected, certified)
        return GridResult(
            decisions=decisions[:leaves],
            counts=counts[:leaves],
            selected=selected[:leaves],
            draws=test.draws,
            parameters=self._parameters,
            unions=UnionLayer(self.unions, decisions[leaves:], counts[leaves:]) if self.unions else None,
        )
