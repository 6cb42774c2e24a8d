"""Several devices that share the draws of a batch: each counts its own, and the counts are added.

A draw is the noise of its number, and what is said of an image depends neither on its batch nor on its place there: the counts are those of
one device, bit for bit, as long as all devices compute one and the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.batches import Batch, Part
from certdicom.errors import UsageError
from certdicom.models.backends.base import Backend, ImageAdapter

if TYPE_CHECKING:
    from certdicom.models.bundle import Bundle


def are_several(device: str) -> bool:
    """Whether a device's name stands for several: a list with commas, or all GPUs."""
    return "," in device or device == "cuda:all"


def several_gpus(device: str, *, precision: str) -> Backend:
    """PyTorch on the GPUs of a list like cuda:0,cuda:1, or on all. UsageError when one is not there, named twice or unlike the first."""
    import torch

    from certdicom.models.backends.torch import TorchBackend

    backends = [TorchBackend(device=name, precision=precision) for name in _names(device, there=torch.cuda.device_count())]
    kinds = sorted({torch.cuda.get_device_name(backend.device) for backend in backends})
    if len(kinds) > 1:
        raise UsageError(f"{' and '.join(kinds)} may round differently, and all draws must be made by one function: name GPUs of one kind")
    return backends[0] if len(backends) == 1 else SeveralDevices(backends, block=backends[0].way.images_a_call)


def _names(device: str, *, there: int) -> list[str]:
    """The GPUs that a request for several stands for; `there`: how many this machine has."""
    if device == "cuda:all":
        return [f"cuda:{index}" for index in range(there)] or ["cuda"]  # which says that there is none
    names = [name.strip() for name in device.split(",")]
    if len(set(names)) < len(names) or not all(name.startswith("cuda:") and name[5:].isdecimal() for name in names):
        raise UsageError(f"several devices must be different GPUs, as cuda:0,cuda:1 or cuda:all, not {device}")
    return names


class SeveralDevices(Backend):
    """Backends that are alike but for their devices, as one.

    `block`: how many draws in a row stay together, which fills calls of that size.
    """

    def __init__(self, backends: Sequence[Backend], *, block: int = 1) -> None:
        """UsageError for backends that would compute differently."""
        first = backends[0]
        if any((other.name, other.precision) != (first.name, first.precision) for other in backends):
            raise UsageError("devices that share draws must compute alike: with one library, in one precision")
        self._backends = tuple(backends)
        self._sharing = _Sharing(len(backends), block)
        self.device = ",".join(str(backend.device) for backend in backends)
        self.precision = first.precision
        self.devices = len(backends)
        self.images_at_once = sum(backend.images_at_once for backend in backends)

    @property
    def name(self) -> str:
        """What computes, with its version."""
        return self._backends[0].name

    def base_segmenter(self, bundle: Bundle, *, sigma: float, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        own = tuple(backend.base_segmenter(bundle, sigma=sigma, adapter=adapter) for backend in self._backends)
        alike = {each.name: getattr(own[0], each.name) for each in fields(own[0])}
        alike["images_a_call"] = self._sharing.block * self.devices  # so that a batch has work for all
        return _SharedSegmenter(**alike, own=own, sharing=self._sharing)

    def clean_segmenter(self, bundle: Bundle, *, adapter: ImageAdapter | None = None) -> BaseSegmenter:
        """The first device's: an image without noise is one."""
        return self._backends[0].clean_segmenter(bundle, adapter=adapter)


@dataclass(frozen=True)
class _Share:
    """What one device counts of a batch, and which parts of the batch its own parts are of."""

    batch: Batch
    places: tuple[int, ...]


class _Sharing:
    """How batches are shared out; the last one's shares are kept, because all segmenters of a run count the same."""

    def __init__(self, devices: int, block: int) -> None:
        self._devices, self.block = devices, block
        self._threads = ThreadPoolExecutor(devices, thread_name_prefix="certdicom-device")
        self._last: tuple[Batch, list[_Share]] | None = None

    def counted(self, segmenters: Sequence[BaseSegmenter], batch: Batch, unions: tuple[tuple[int, ...], ...]) -> NDArray[np.int32]:
        """The votes in each part of the batch, (parts, structures + unions, H, W), of segmenters that are one function."""
        shares = self._shares(batch)

        def votes(segmenter: BaseSegmenter, share: _Share) -> NDArray[np.int32]:
            return _on_host(segmenter.count(share.batch, unions))

        found = list(self._threads.map(votes, segmenters[: len(shares)], shares))
        total = np.zeros((len(batch.parts), *found[0].shape[1:]), np.int32)
        for share, own in zip(shares, found, strict=True):
            total[list(share.places)] += own
        return total

    def _shares(self, batch: Batch) -> list[_Share]:
        """Draws in a row for each device, whole blocks but for the last; as many shares as there are blocks, if there are not enough."""
        last = self._last  # read once, because another thread may replace it
        if last is not None and last[0] is batch:
            return last[1]
        draws = len(batch.draws)
        blocks = -(-draws // self.block)
        devices = min(self._devices, blocks)
        ends = [min(draws, blocks * number // devices * self.block) for number in range(devices + 1)]
        shares = [_share(batch, start, end) for start, end in pairwise(ends)]
        self._last = batch, shares
        return shares


def _share(batch: Batch, start: int, end: int) -> _Share:
    """The draws of a batch from number `start` to `end`."""
    parts, places, before = list[Part](), list[int](), 0
    for place, part in enumerate(batch.parts):
        draws = part.draws[max(0, start - before) : max(0, end - before)]
        if draws:
            parts.append(replace(part, draws=draws))
            places.append(place)
        before += len(part.draws)
    return _Share(Batch(batch.sigma, tuple(parts)), tuple(places))


@dataclass(frozen=True, eq=False, kw_only=True)
class _SharedSegmenter(BaseSegmenter):
    """The first device's segmenter, but for the counting: `own` are all devices'."""

    own: tuple[BaseSegmenter, ...]
    sharing: _Sharing

    def count(self, batch: Batch, unions: tuple[tuple[int, ...], ...]) -> NDArray[np.int32]:
        alike = [replace(segmenter, thresholds=self.thresholds) for segmenter in self.own]  # somebody may have asked for others
        return self.sharing.counted(alike, batch, unions)


def _on_host(votes: Any) -> NDArray[np.int32]:
    return np.asarray(votes.cpu() if hasattr(votes, "cpu") else votes)
