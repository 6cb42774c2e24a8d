"""Counting the votes of several base segmenters over several images at once, each noise image denoised once for all of them."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from certdicom.certification.noise import noisy_batch
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.smoothing import with_unions
from certdicom.evaluation.models import BaseSegmenter
from certdicom.evaluation.outcome import Trial


@torch.inference_mode()
def try_all(
    images: Sequence[Tensor],
    segmenters: Sequence[BaseSegmenter],
    parameters: Sequence[SmoothingParameters],
    *,
    seeds: Sequence[bytes],
    batch_size: int,
) -> list[list[Trial]]:
    """Every segmenter's trial about every image: one list an image.

    `images` (channels, rows, columns) float32 of one frame, on the device; `parameters`: of each segmenter, alike but for the unions.
    Draw `d` of image `i` is the noise of `seeds[i]` and `d`, the same for all segmenters. Draws go on until all trials have stopped;
    one that has stopped at a look counts no more. Draws of several images share batches, which all have exactly `batch_size` images
    (the last before a look is filled up and the surplus dropped), so that the networks run the same kernels in every draw.
    """
    shared = parameters[0]
    tallies = [[_Tally(segmenter, own) for segmenter, own in zip(segmenters, parameters, strict=True)] for _ in images]
    drawn = 0
    for look in shared.planned_looks:
        going = [index for index, row in enumerate(tallies) if any(tally.goes_on for tally in row)]
        for batch in _batches(going, range(drawn, shared.n0 + look), batch_size):
            noisy = torch.cat([noisy_batch(images[index], shared.sigma, seed=seeds[index], draws=draws) for index, draws in batch])
            if len(noisy) < batch_size:
                noisy = torch.cat([noisy, noisy[:1].expand(batch_size - len(noisy), -1, -1, -1)])
            asked = {position for index, _ in batch for position, tally in enumerate(tallies[index]) if tally.goes_on}
            for position, decisions in _decide(noisy, segmenters, sorted(asked)):
                start = 0
                for index, draws in batch:
                    tallies[index][position].add(decisions[start : start + len(draws)], draws)
                    start += len(draws)
        for tally in (tally for row in tallies for tally in row if tally.goes_on):
            tally.test(look)
        drawn = shared.n0 + look
    return [[tally.trial for tally in row] for row in tallies]


@torch.inference_mode()
def decide_clean(image: Tensor, segmenter: BaseSegmenter) -> NDArray[np.bool_]:
    """The decisions on the image itself, bool (structures, rows, columns)."""
    return segmenter.decide(segmenter.denoise(segmenter.fit.to_model(image[None])))[0].cpu().numpy()


def _decide(noisy: Tensor, segmenters: Sequence[BaseSegmenter], asked: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """The decisions on one batch of the segmenters at the positions `asked`; what several need is computed once."""
    fed: dict[Hashable, Tensor] = {}
    denoised: dict[Hashable, Tensor] = {}
    for position in asked:
        segmenter = segmenters[position]
        key = (segmenter.fit, segmenter.denoise_key)
        if segmenter.fit not in fed:
            fed[segmenter.fit] = segmenter.fit.to_model(noisy)
        if key not in denoised:
            denoised[key] = segmenter.denoise(fed[segmenter.fit])
        yield position, segmenter.decide(denoised[key])


def _batches(images: Sequence[int], draws: range, batch_size: int) -> Iterator[list[tuple[int, range]]]:
    """The same draws of all images in order, `batch_size` at a time, as (image, draws) pieces."""
    every = ((image, draw) for image in images for draw in draws)
    while batch := list(islice(every, batch_size)):
        pieces: list[tuple[int, range]] = []
        for image, draw in batch:
            if pieces and pieces[-1][0] == image:
                pieces[-1] = (image, range(pieces[-1][1].start, draw + 1))
            else:
                pieces.append((image, range(draw, draw + 1)))
        yield pieces


class _Tally:
    """Running counts of one segmenter about one image, on the device, until a look at which its trial stops."""

    trial: Trial

    def __init__(self, segmenter: BaseSegmenter, parameters: SmoothingParameters) -> None:
        self._exclusive = segmenter.exclusive
        self._parameters = parameters
        self._counts: list[Tensor] = []
        self.goes_on = True

    def add(self, decisions: Tensor, draws: range) -> None:
        """Count the decisions of `draws` (B, structures, rows, columns), unless the trial has stopped."""
        if not self.goes_on:
            return
        votes = with_unions(decisions, self._parameters.unions)
        if not self._counts:
            self._counts = [torch.zeros(votes.shape[1:], dtype=torch.int32, device=votes.device) for _ in range(2)]
        border = min(max(self._parameters.n0 - draws.start, 0), len(draws))
        for phase, part in enumerate((votes[:border], votes[border:])):
            if len(part):
                self._counts[phase] += part.sum(0, dtype=torch.int32)

    def test(self, draws: int) -> None:
        """Let the trial look at the votes among `draws` fresh draws."""
        first, rest = (count.cpu().numpy() for count in self._counts)
        if draws == self._parameters.planned_looks[0]:
            self.trial = Trial(first, self._parameters, exclusive=self._exclusive)
        self.goes_on = not self.trial.look(rest, draws=draws)
