"""Calls of one shape: what makes a network one fixed function of an image.

Kernels choose their blocking by the size of a batch and split it over threads, and sums then round differently for the same image
in another batch, at another place or on another number of cores. A certificate is about one function of one image, so a
function is always called with the same number of images, whatever it is handed.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import torch
from torch import Tensor

from certdicom.models.backends.ways import Way

BatchFunction = Callable[[Tensor], Tensor]


def fixed_calls(function: BatchFunction, way: Way) -> BatchFunction:
    """`function` of a batch (B, …) in calls of one shape: image by image, or so many images as the way says."""
    if way.compiled:
        function = torch.compile(function, fullgraph=True, dynamic=False)
    return FixedBatches(function, size=way.images_a_call) if way.on_device else PerImage(function)


class FixedBatches:
    """`function` in calls of exactly `size` images; the last is filled up with its first image, and the surplus dropped."""

    def __init__(self, function: BatchFunction, *, size: int) -> None:
        self._function = function
        self._size = size

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        answers = [self._filled(part) for part in batch.split(self._size)]
        return answers[0] if len(answers) == 1 else torch.cat(answers)

    def _filled(self, part: Tensor) -> Tensor:
        surplus = self._size - len(part)
        full = torch.cat([part, part[:1].expand(surplus, *part.shape[1:])]) if surplus else part
        return self._function(full)[: len(part)]


class PerImage:
    """`function` image by image; several images at once, each on a thread of its own."""

    def __init__(self, function: BatchFunction) -> None:
        self._function = function
        self._workers: ThreadPoolExecutor | None = None
        self._starting = Lock()

    def __call__(self, batch: Tensor) -> Tensor:
        return torch.cat(list(self._started().map(self._single, batch.split(1))))

    def _single(self, image: Tensor) -> Tensor:
        with torch.inference_mode():  # which is a thread's own
            return self._function(image)

    def _started(self) -> ThreadPoolExecutor:
        with self._starting:
            if self._workers is None:
                self._workers = _single_threaded_workers(torch.get_num_threads())
            return self._workers


def _single_threaded_workers(count: int) -> ThreadPoolExecutor:
    """`count` threads in which PyTorch uses no further ones."""
    workers = ThreadPoolExecutor(count, thread_name_prefix="certdicom-draw")
    together = Barrier(count)

    def settle(_: int) -> None:
        torch.get_num_threads()  # a thread's first question sets its number from the process's, and so must come first
        torch.set_num_threads(1)
        together.wait()  # so that every worker takes exactly one of these tasks

    list(workers.map(settle, range(count)))
    torch.set_num_threads(count)  # for threads to come: the workers have changed that as well
    return workers
