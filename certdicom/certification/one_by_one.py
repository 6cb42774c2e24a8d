"""One image at a time, one thread each: what makes a network one fixed function of an image on CPUs.

Kernels split a batch over threads and choose their blocking by its size, and sums then round differently for the same image
at another place, in another batch or on another number of cores. A certificate is about one function of one image.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Lock

import torch
from torch import Tensor

BatchFunction = Callable[[Tensor], Tensor]


class OneByOne:
    """`function` of a batch (B, …), computed image by image on CPUs; several images at once, each on a thread of its own.

    On other devices the whole batch goes in at once: there the caller keeps the batch size fixed.
    """

    def __init__(self, function: BatchFunction) -> None:
        self._function = function
        self._workers: ThreadPoolExecutor | None = None
        self._starting = Lock()

    def __call__(self, batch: Tensor) -> Tensor:
        if batch.device.type != "cpu":
            return self._function(batch)
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
