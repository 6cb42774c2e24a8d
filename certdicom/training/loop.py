"""What both training loops share: a budget that drives the learning rate, averaged weights, and the log."""

from __future__ import annotations

import copy
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
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

    def learning_rate(self, peak: float, *, warmup_steps: int = 100) -> float:
        """Linear warm-up to `peak`, then half a cosine down to 1 % of it at the end of the budget."""
        cosine = 0.5 * (1 + math.cos(math.pi * self.progress))
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
