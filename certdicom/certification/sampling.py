"""The sampler: the one loop that draws, selects, counts and looks, for any number of images and base segmenters.

SegCertify with Holm's correction (Fischer et al., ICML 2021, Algorithm 2; Laousy et al., MICCAI 2023) and, where asked for, several looks
and unions of structures. NumPy alone: what runs the networks stands behind `base_segmenter.VoteCounter`.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.base_segmenter import VoteCounter
from certdicom.certification.batches import Batch, DrawingOrder, Image, Part, drawn_ahead, ends_of_stages, in_batches, not_finite
from certdicom.certification.certificate import ABSENT, ABSTAIN, PRESENT, UnionLayer
from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.looks import LookByLook
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.rounding import rounded_down
from certdicom.certification.statistics import Array
from certdicom.errors import BundleError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

Decide = Callable[[Any], Any]
"""Noisy images (B, channels, H, W) float32 → bool (B, structures, H, W), arrays or tensors. One fixed function."""

Progress = Callable[[int, int], None]
"""Called with (draws done, draws in all) after every batch."""


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
    order = DrawingOrder([Part(index, u, seed, range(0)) for index, (u, seed) in enumerate(zip(checked, seeds, strict=True))], shared)
    call = math.lcm(*(segmenter.images_a_call for segmenter in segmenters))
    done = 0
    for stage, end in enumerate(order.ends):
        going = [any(family.goes_on for family in of_image) for of_image in families]
        batches = in_batches(order.wanted(stage, going, call=call), sigma=shared.sigma, size=-(-batch_size // call) * call)
        for batch in _with_noise(batches, segmenters):
            for segmenter, asked in zip(segmenters, zip(*(families[part.image] for part in batch.parts), strict=True), strict=True):
                _count(batch, segmenter, asked)
            done += len(batch.draws)
            if progress is not None:
                progress(done, len(images) * order.ends[-1])
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
    first = in_batches([Part(0, image, seed, range(parameters.n0))], sigma=parameters.sigma, size=batch_size)
    for batch in _with_noise(first, [segmenter]):
        _count(batch, segmenter, [family])
    family.select(selected.append)
    return selected[0]


def _with_noise(batches: Iterable[Batch], segmenters: Sequence[VoteCounter]) -> Iterable[Batch]:
    """The batches in order; nothing is drawn here where all segmenters do that themselves."""
    return batches if all(segmenter.draws_itself for segmenter in segmenters) else drawn_ahead(batches)


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
        self._ends = ends_of_stages(parameters)
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
