"""The training loop: a recipe says what is learnt from what, a plan how long and where to."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from certdicom.research.training.curves import CURVES
from certdicom.research.training.weights import AveragedWeights, load_checkpoint, save_checkpoint, save_network
from certdicom.research.training.workers import Workers

CHECKPOINT = "checkpoint.pt"
_WARM_UP_STEPS = 100


@dataclass(frozen=True)
class Plan:
    """How long, how fast and where to.

    `out`: folder for the weights (ROLE.safetensors), the curves (learning.jsonl) and the checkpoint; `steps`, or `minutes` if they end
    first; `peak_rate`: of AdamW, reached after 100 steps, then half a cosine down to 1 % of it; `resume`: go on from the
    checkpoint in `out`, as if there had been no stop; `record`: what the weight files say of how they came about, beside steps,
    seconds and the last scores.
    """

    out: Path
    steps: int
    minutes: float | None = None
    peak_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    validate_every: int = 250
    resume: bool = False
    record: Mapping[str, Any] = field(default_factory=dict)

    def progress(self, *, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent."""
        spent = step / self.steps
        return min(1.0, spent if self.minutes is None else max(spent, seconds / (60 * self.minutes)))

    def learning_rate(self, *, step: int, progress: float) -> float:
        """The rate of the step after `step` steps."""
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak_rate * min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.01 + 0.99 * cosine)


class Recipe(Protocol):
    """What is trained, and on what.

    `networks` by role ("segmenter", "denoiser"), on their device; `descriptions` that rebuild them; `rates`: each one's share
    of the learning rate.
    """

    @property
    def networks(self) -> Mapping[str, nn.Module]: ...
    @property
    def descriptions(self) -> Mapping[str, Mapping[str, Any]]: ...
    @property
    def rates(self) -> Mapping[str, float]: ...

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of a fresh batch, and the figures for the curves. All draws come from torch's global generator."""

    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Scores of the averaged networks, on fixed draws of its own generator."""


def train(recipe: Recipe, plan: Plan, *, show: Callable[[float, Mapping[str, Any]], None] = lambda _progress, _figures: None) -> None:
    """Run `recipe` to the end of `plan`; `show(progress, figures)` is called after each step, with scores after a validation.

    At every validation the averaged weights, one line of the curves and the checkpoint are written. Each step draws from its
    own seed, so that a resumed training repeats what an uninterrupted one would have done.
    """
    workers = Workers()
    roles = list(recipe.networks)
    averages = {role: AveragedWeights(recipe.networks[role]) for role in roles}
    optimizer = torch.optim.AdamW(
        [{"params": list(recipe.networks[role].parameters()), "share": recipe.rates[role]} for role in roles],
        plan.peak_rate,
        weight_decay=plan.weight_decay,
    )
    step, before = 0, 0.0
    if plan.resume:
        step, before = _restore(load_checkpoint(plan.out / CHECKPOINT), recipe, averages, optimizer)
    elif workers.first:
        plan.out.mkdir(parents=True, exist_ok=True)
        (plan.out / CURVES).unlink(missing_ok=True)
    start = time.monotonic()
    recent: list[dict[str, float]] = []
    progress = workers.agree(plan.progress(step=step, seconds=before))
    while progress < 1:
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, step, workers.rank]).generate_state(1)[0]))
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * plan.learning_rate(step=step, progress=progress)
        loss, figures = recipe.loss(step=step, progress=progress)
        optimizer.zero_grad()
        loss.backward()
        workers.average_gradients(recipe.networks.values())
        for network in recipe.networks.values():
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        for role in roles:
            averages[role].update(recipe.networks[role], step=step)
        seconds = before + time.monotonic() - start
        progress = workers.agree(plan.progress(step=step, seconds=seconds))
        recent.append({"loss": float(loss.detach()), **figures})
        scores: dict[str, Any] = {}
        if workers.first and (step % plan.validate_every == 0 or progress >= 1):
            scores = recipe.validate({role: averages[role].network for role in roles})
            means = {name: round(float(np.mean([entry[name] for entry in recent])), 5) for name in recent[0]}
            recent.clear()
            with (plan.out / CURVES).open("a") as curves:
                curves.write(json.dumps({"step": step, "seconds": round(seconds), **means, **scores}) + "\n")
            record = {**plan.record, "steps": step, "seconds": round(seconds), **scores}
            for role in roles:
                save_network(averages[role].network, plan.out / f"{role}.safetensors", description=recipe.descriptions[role], record=record)
            save_checkpoint(plan.out / CHECKPOINT, _state(recipe, averages, optimizer, step=step, seconds=seconds))
        show(progress, {"step": step, "loss": float(loss.detach()), **scores})


def _state(
    recipe: Recipe, averages: Mapping[str, AveragedWeights], optimizer: torch.optim.Optimizer, *, step: int, seconds: float
) -> dict[str, Any]:
    return {
        "step": step,
        "seconds": seconds,
        "networks": {role: network.state_dict() for role, network in recipe.networks.items()},
        "averages": {role: average.network.state_dict() for role, average in averages.items()},
        "optimizer": optimizer.state_dict(),
    }


def _restore(
    state: Mapping[str, Any], recipe: Recipe, averages: Mapping[str, AveragedWeights], optimizer: torch.optim.Optimizer
) -> tuple[int, float]:
    """Put everything back; (steps done, seconds spent)."""
    for role, network in recipe.networks.items():
        network.load_state_dict(state["networks"][role])
        averages[role].network.load_state_dict(state["averages"][role])
    optimizer.load_state_dict(state["optimizer"])
    return int(state["step"]), float(state["seconds"])
