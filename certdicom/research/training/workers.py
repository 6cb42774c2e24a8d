"""Several processes that train one network together, as `torchrun` starts them."""

from __future__ import annotations

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


def prepare_process(*, threads: int | None, seed: int | None) -> None:
    """Before any network is made: how many threads PyTorch may use (None for its own choice), and the seed of what is drawn."""
    if threads:
        torch.set_num_threads(threads)
    if seed is not None:
        torch.manual_seed(seed)


class Workers:
    """The processes that train together, each on its own draws; alone unless `torchrun` started several.

    On CPUs, two processes of one thread each train almost twice as fast as one of two threads.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")

    @property
    def first(self) -> bool:
        """Whether this process is the one that validates and writes."""
        return self.rank == 0

    def agree(self, value: float) -> float:
        """The first process's `value`, for decisions that all must take alike."""
        if self.count == 1:
            return value
        shared = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(shared, 0)
        return float(shared)

    def average_gradients(self, networks: Iterable[nn.Module]) -> None:
        """Replace every gradient by its mean over the processes; all must have gradients for the same parameters."""
        if self.count == 1:
            return
        gradients = [p.grad for network in networks for p in network.parameters() if p.grad is not None]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients]).cpu()
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, (flat / self.count).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))
