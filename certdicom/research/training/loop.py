"""The training loop: a recipe says what is learnt from what, a plan how long and where to."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from certdicom.errors import UsageError
from certdicom.research.training.curves import CURVES, append_curves, columns_of, forget_after
from certdicom.research.training.weights import AveragedWeights, load_checkpoint, save_checkpoint, save_network
from certdicom.research.training.workers import Workers

CHECKPOINT = "checkpoint.pt"
_WARM_UP_STEPS = 100


@dataclass(frozen=True)
class Plan:
    """How long, how fast and where to.

    `out`: folder for the weights (ROLE.safetensors), the curves (learning.csv) and the checkpoint; `steps`, or `minutes` if they end
    first; `peak_rate`: of AdamW, reached after 100 steps, then half a cosine down to 1 % of it; `resume`: go on from the
    checkpoint in `out`, as if there had been no stop; `save_minutes`: between checkpoints, at most; `record`: what the weight files say of
    how they came about, beside steps, seconds and the last scores; `began_with`: by role, what the file of its first weights said.
    """

    out: Path
    steps: int
    minutes: float | None = None
    peak_rate: float = 1e-3
    weight_decay: float = 1e-2
    seed: int = 0
    validate_every: int = 250
    resume: bool = False
    save_minutes: float = 5.0
    record: Mapping[str, Any] = field(default_factory=dict)
    began_with: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def progress(self, *, step: int, seconds: float) -> float:
        """0 at the start, 1 when the budget is spent."""
        spent = step / self.steps
        return min(1.0, spent if self.minutes is None else max(spent, seconds / (60 * self.minutes)))

    def learning_rate(self, *, step: int, progress: float) -> float:
        """The rate of the step after `step` steps."""
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        return self.peak_rate * min(1.0, (step + 1) / _WARM_UP_STEPS) * (0.01 + 0.99 * cosine)


@dataclass(frozen=True)
class Moment:
    """Where a training stands after a step.

    `progress`: from 0 to 1; `seconds`: spent in all; `loss`: of this step, a scalar on the networks' device, which is waited for when it
    is read; `columns`: scores and mean losses at a validation, else empty;
    `saved`: whether a checkpoint was written.
    """

    progress: float
    step: int
    seconds: float
    loss: Tensor
    columns: Mapping[str, float]
    saved: bool


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

    def loss(self, *, step: int, progress: float) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a fresh batch, and the figures for the curves: scalars without gradients.

        All draws come from torch's global generators.
        """

    def validate(self, averages: Mapping[str, nn.Module]) -> dict[str, Any]:
        """Scores of the averaged networks, on fixed draws of its own generator."""


def train(recipe: Recipe, plan: Plan, *, show: Callable[[Moment], None] = lambda _moment: None) -> None:
    """Run `recipe` to the end of `plan`; `show` is called after each step.

    At every validation the averaged weights and one line of the curves are written, and the checkpoint then and in between. Each step
    draws from its own seed, so that a resumed training repeats what an uninterrupted one would have done.
    """
    workers = Workers()
    roles = list(recipe.networks)
    averages = {role: AveragedWeights(recipe.networks[role]) for role in roles}
    optimizer = torch.optim.AdamW(
        [{"params": list(recipe.networks[role].parameters()), "share": recipe.rates[role]} for role in roles],
        plan.peak_rate,
        weight_decay=plan.weight_decay,
        fused=True,
    )
    step, before = 0, 0.0
    recent: list[dict[str, Tensor]] = []
    if plan.resume:
        step, before, recent = _restore(load_checkpoint(plan.out / CHECKPOINT), recipe, averages, optimizer)
    elif workers.first:
        plan.out.mkdir(parents=True, exist_ok=True)
    if workers.first:
        forget_after(plan.out / CURVES, step=step)
    start = saved = time.monotonic()
    progress = workers.agree(plan.progress(step=step, seconds=before))
    while progress < 1:
        torch.manual_seed(int(np.random.SeedSequence([plan.seed, step, workers.rank]).generate_state(1)[0]))
        for group in optimizer.param_groups:
            group["lr"] = group["share"] * plan.learning_rate(step=step, progress=progress)
        loss, figures = recipe.loss(step=step, progress=progress)
        optimizer.zero_grad(set_to_none=True)
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
        recent.append({"loss": loss.detach(), **figures})
        columns: dict[str, float] = {}
        if validates := workers.first and (step % plan.validate_every == 0 or progress >= 1):
            columns = _validated(recipe, plan, averages, step=step, seconds=seconds, recent=recent)
            recent.clear()
        saves = validates or (workers.first and time.monotonic() - saved > 60 * plan.save_minutes)
        if saves:
            save_checkpoint(plan.out / CHECKPOINT, _state(recipe, averages, optimizer, step=step, seconds=seconds, recent=recent))
            saved = time.monotonic()
        show(Moment(progress, step, seconds, loss.detach(), columns, saves))


def _validated(
    recipe: Recipe,
    plan: Plan,
    averages: Mapping[str, AveragedWeights],
    *,
    step: int,
    seconds: float,
    recent: Sequence[Mapping[str, Tensor]],
) -> dict[str, float]:
    """Score the averaged weights, write them, and add a line to the curves: mean losses and scores, which are returned."""
    scores = recipe.validate({role: average.network for role, average in averages.items()})
    means = {name: round(value, 5) for name, value in zip(recent[0], _figures(recent).mean(0).tolist(), strict=True)}
    columns = {**means, **columns_of(scores, plan.record.get("structures", ()))}
    append_curves(plan.out / CURVES, {"step": step, "seconds": round(seconds), **columns})
    record = {**plan.record, "steps": step, "seconds": round(seconds), **scores}
    for role, average in averages.items():
        own = {**record, "began_with": plan.began_with.get(role, {})}
        save_network(average.network, plan.out / f"{role}.safetensors", description=recipe.descriptions[role], record=own)
    return columns


def _state(
    recipe: Recipe,
    averages: Mapping[str, AveragedWeights],
    optimizer: torch.optim.Optimizer,
    *,
    step: int,
    seconds: float,
    recent: Sequence[Mapping[str, Tensor]],
) -> dict[str, Any]:
    columns = list(recent[0]) if recent else []
    return {
        "step": step,
        "seconds": seconds,
        "recent": [dict(zip(columns, figures, strict=True)) for figures in _figures(recent).tolist()] if recent else [],
        "networks": {role: network.state_dict() for role, network in recipe.networks.items()},
        "averages": {role: average.network.state_dict() for role, average in averages.items()},
        "optimizer": optimizer.state_dict(),
    }


def _restore(
    state: Mapping[str, Any], recipe: Recipe, averages: Mapping[str, AveragedWeights], optimizer: torch.optim.Optimizer
) -> tuple[int, float, list[dict[str, Tensor]]]:
    """Put everything back; (steps done, seconds spent, the losses since the last validation). UsageError for another network's state."""
    try:
        for role, network in recipe.networks.items():
            network.load_state_dict(state["networks"][role])
            averages[role].network.load_state_dict(state["averages"][role])
        optimizer.load_state_dict(state["optimizer"])
    except (RuntimeError, ValueError, KeyError) as error:
        raise UsageError(
            "the checkpoint is of another network: give the options with which that training began, or leave --resume out to start anew"
        ) from error
    recent = [{name: torch.tensor(value, dtype=torch.float64) for name, value in figures.items()} for figures in state.get("recent", ())]
    return int(state["step"]), float(state["seconds"]), recent


def _figures(recent: Sequence[Mapping[str, Tensor]]) -> Tensor:
    """The figures of each step, (steps, figures) float64 on the CPU: the device is waited for once."""
    device = next(iter(recent[-1].values())).device
    return torch.stack([torch.stack([figure.to(device, torch.float64) for figure in figures.values()]) for figures in recent]).cpu()
