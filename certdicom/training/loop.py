"""What the training loops share: a budget that drives the learning rate, averaged weights, several processes, and the log."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import nn

from certdicom.errors import UsageError


@dataclass
class Budget:
    """How long to train: `steps`, or `minutes` if that ends first. `progress` runs from 0 to 1."""

    steps: int
    minutes: float | None = None

    def __post_init__(self) -> None:
        self.step = 0
        self._start = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    @property
    def progress(self) -> float:
        spent = self.step / self.steps
        return min(1.0, spent if self.minutes is None else max(spent, self.seconds / (60 * self.minutes)))

    def learning_rate(self, peak: float, progress: float, *, warmup_steps: int = 100) -> float:
        """Linear warm-up to `peak`, then half a cosine down to 1 % of it as `progress` goes from 0 to 1."""
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return peak * min(1.0, (self.step + 1) / warmup_steps) * (0.01 + 0.99 * cosine)


class AveragedWeights:
    """Exponential moving average of a network's weights; the average is what gets validated and shipped."""

    def __init__(self, network: nn.Module, *, decay: float = 0.998) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self._decay = decay
        self._updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for average, current in zip(self.network.parameters(), network.parameters(), strict=True):
            average.lerp_(current.detach(), 1 - decay)


class Workers:
    """The processes that train one network together, each on its own films; alone unless `torchrun` started several.

    On CPUs, two processes of one thread each train almost twice as fast as one of two threads.
    """

    def __init__(self) -> None:
        self.count = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        if self.count > 1 and not dist.is_initialized():
            dist.init_process_group("gloo")

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
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        for gradient, mean in zip(gradients, (flat / self.count).split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(mean.view_as(gradient))


def set_learning_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = rate


def save_weights(network: nn.Module, path: Path) -> None:
    """Half-precision safetensors, replaced atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file({name: value.detach().half().contiguous() for name, value in network.state_dict().items()}, partial)
    partial.replace(path)


def load_weights(network: nn.Module, path: Path) -> None:
    """Load safetensors of any float precision into a float32 network."""
    if not path.is_file():
        raise UsageError(f"no weights at {path}")
    network.load_state_dict({name: value.float() for name, value in load_file(path).items()})


class TrainingLog:
    """One JSON object per line to a file, and the same to the screen."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path

    def write(self, **values: object) -> None:
        line = json.dumps(values)
        with self._path.open("a") as log:
            log.write(line + "\n")
        print(line, flush=True)
