"""Counting the votes of several base segmenters over several images at once, each noise image denoised once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.noise import noisy_batch
from certdicom.evaluation.models import BaseSegmenter


@dataclass(frozen=True, eq=False)
class Votes:
    """How often each structure was present at each pixel: (structures, rows, columns) int32 among n0 and among n fresh draws."""

    first: NDArray[np.int32]
    rest: NDArray[np.int32]


@torch.inference_mode()
def count_votes(
    images: Sequence[Tensor],
    segmenters: Sequence[BaseSegmenter],
    *,
    sigma: float,
    seeds: Sequence[bytes],
    n0: int,
    n: int,
    batch_size: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[list[Votes]]:
    """The votes of every segmenter about every image: one list an image.

    `images` (channels, rows, columns) float32 of one frame, on the device; draw `d` of image `i` is the noise of `seeds[i]`
    and `d`, the same for all segmenters. Draws of several images share batches, which all have exactly `batch_size` images (the
    last is filled up and the surplus dropped), so that the networks run the same kernels in every draw.
    """
    tallies = [[_Tally(n0) for _ in segmenters] for _ in images]
    total, done = len(images) * (n0 + n), 0
    for batch in _batches(len(images), n0 + n, batch_size):
        noisy = torch.cat([noisy_batch(images[index], sigma, seed=seeds[index], draws=draws) for index, draws in batch])
        drawn = len(noisy)
        if drawn < batch_size:
            noisy = torch.cat([noisy, noisy[:1].expand(batch_size - drawn, -1, -1, -1)])
        for position, decisions in enumerate(_decide(noisy, segmenters)):
            start = 0
            for index, draws in batch:
                tallies[index][position].add(decisions[start : start + len(draws)], draws)
                start += len(draws)
        done += drawn
        if progress is not None:
            progress(done, total)
    return [[tally.votes() for tally in row] for row in tallies]


@torch.inference_mode()
def decide_clean(image: Tensor, segmenter: BaseSegmenter) -> NDArray[np.bool_]:
    """The decisions on the image itself, bool (structures, rows, columns)."""
    return segmenter.decide(segmenter.denoise(segmenter.fit.to_model(image[None])))[0].cpu().numpy()


def _decide(noisy: Tensor, segmenters: Sequence[BaseSegmenter]) -> Iterator[Tensor]:
    """Each segmenter's decisions on one batch; what several need is computed once."""
    fed: dict[Hashable, Tensor] = {}
    denoised: dict[Hashable, Tensor] = {}
    for segmenter in segmenters:
        key = (segmenter.fit, segmenter.denoise_key)
        if segmenter.fit not in fed:
            fed[segmenter.fit] = segmenter.fit.to_model(noisy)
        if key not in denoised:
            denoised[key] = segmenter.denoise(fed[segmenter.fit])
        yield segmenter.decide(denoised[key])


def _batches(images: int, draws: int, batch_size: int) -> Iterator[list[tuple[int, range]]]:
    """All draws of all images in order, `batch_size` at a time, as (image, draws) pieces."""
    every = ((image, draw) for image in range(images) for draw in range(draws))
    while batch := list(islice(every, batch_size)):
        pieces: list[tuple[int, range]] = []
        for image, draw in batch:
            if pieces and pieces[-1][0] == image:
                pieces[-1] = (image, range(pieces[-1][1].start, draw + 1))
            else:
                pieces.append((image, range(draw, draw + 1)))
        yield pieces


class _Tally:
    """Running counts of one segmenter about one image, on the device."""

    def __init__(self, n0: int) -> None:
        self._n0 = n0
        self._counts: list[Tensor] = []

    def add(self, decisions: Tensor, draws: range) -> None:
        if not self._counts:
            self._counts = [torch.zeros(decisions.shape[1:], dtype=torch.int32, device=decisions.device) for _ in range(2)]
        border = min(max(self._n0 - draws.start, 0), len(draws))
        for phase, part in enumerate((decisions[:border], decisions[border:])):
            if len(part):
                self._counts[phase] += part.sum(0, dtype=torch.int32)

    def votes(self) -> Votes:
        first, rest = (count.cpu().numpy() for count in self._counts)
        return Votes(first=first, rest=rest)
