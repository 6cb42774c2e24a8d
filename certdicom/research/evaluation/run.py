"""An evaluation: candidates × images × noise levels, image by image, going on where an interrupted one stopped."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import BaseSegmenter, certify_grids
from certdicom.errors import OutputError, UnreadableError, UsageError
from certdicom.files import write_atomically
from certdicom.models.backends.base import Backend
from certdicom.models.backends.cores import cores
from certdicom.research.datasets.dataset import Sample
from certdicom.research.datasets.picture import GridPicture, Picture
from certdicom.research.evaluation.models import base_segmenter
from certdicom.research.evaluation.outcome import Outcome, outcome_of, without_noise
from certdicom.research.evaluation.plan import Plan, Task, tasks_of
from certdicom.research.evaluation.protocol import NoiseGrid
from certdicom.research.evaluation.rows import Key, Row, RowFile, score_columns
from certdicom.version import METHOD_VERSION

SETTINGS = "run.json"
ROWS = "per_image.csv"

_EQUALISING_STEPS = 8
"""The displayed window's native radius grows nearly as sigma does, so that each step leaves a small part of the difference."""


def evaluate(
    plan: Plan,
    *,
    backend: Backend,
    folder: Path | None = None,
    batch_size: int = 10,
    images_at_once: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """All rows of the plan; with a `folder`, those that it holds are not computed again and new ones are kept there.

    Draws are seeded by each image's name, so that a run repeats itself. `images_at_once`: how many images' draws may share batches
    (more keep a large device busy). `progress`: called with (images done, images in all), counted per model and noise level.
    UsageError when the folder holds another run, or something cannot be certified at all.
    """
    plan.require_certifiable()
    kept = _open(folder, plan, backend) if folder is not None else None
    rows: dict[Key, list[Row]] = {row.key: [] for row in kept.rows} if kept else {}
    for row in kept.rows if kept else ():
        rows[row.key].append(row)
    tasks = tasks_of(plan)
    groups = _groups(tasks, plan)
    total, done = len(tasks) * len(plan.samples), 0
    at_once = 1 if plan.equal_radius else images_at_once
    for first in range(0, len(plan.samples), at_once):
        together = _Together(plan, plan.samples[first : first + at_once])
        for group in groups:
            missing = [task for task in group if any(task.key(sample) not in rows for sample in together.samples)]
            if missing:
                for key, new in _compute(together, missing, backend=backend, batch_size=batch_size).items():
                    if key not in rows:
                        rows[key] = new
                        if kept is not None:
                            kept.append(new)
            done += len(together.samples) * len(group)
            if progress is not None:
                progress(done, total)
    return [row for task in tasks for sample in plan.samples for row in rows[task.key(sample)]]


def _groups(tasks: Sequence[Task], plan: Plan) -> list[list[Task]]:
    """Tasks that share their noise images: equal sigma and equal noise grid."""
    groups: dict[tuple[float, NoiseGrid], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.sigma, plan.noise_grid_of(task.candidate)), []).append(task)
    return list(groups.values())


class _Together:
    """Images that are computed together, each read once for all models and noise levels."""

    def __init__(self, plan: Plan, samples: Sequence[Sample]) -> None:
        self.plan = plan
        self.samples = samples
        self._views: dict[tuple[NoiseGrid, str], list[GridPicture]] = {}

    @cached_property
    def pictures(self) -> list[Picture]:
        return [sample.read() for sample in self.samples]

    def views(self, task: Task) -> list[GridPicture]:
        """The images where the task's noise is drawn, with masks of the bundle's structures."""
        bundle, noise_grid = task.candidate.bundle, self.plan.noise_grid_of(task.candidate)
        key = noise_grid, bundle.sha256
        if key not in self._views:
            names = self.plan.names_of(bundle)
            self._views[key] = [
                picture.on_grid(noise_grid.grid, channels=noise_grid.channels, structures=names, rule=self.plan.window)
                for picture in self.pictures
            ]
        return self._views[key]


def _compute(together: _Together, tasks: Sequence[Task], *, backend: Backend, batch_size: int) -> dict[Key, list[Row]]:
    plan, samples, sigma = together.plan, together.samples, tasks[0].sigma
    views = [together.views(task) for task in tasks]
    noise_grid = plan.noise_grid_of(tasks[0].candidate)
    if plan.equal_radius and sigma:
        (view,) = views[0]
        sigma = _equal_sigma(together, tasks[0], view)
    segmenters = [base_segmenter(backend, task.candidate, noise_grid, sigma=sigma) for task in tasks]
    images = [view.u for view in views[0]]
    started = time.perf_counter()
    if sigma:
        parameters = [plan.parameters_for(task.candidate.bundle, sigma=sigma) for task in tasks]
        outcomes = certified_outcomes(images, segmenters, parameters, names=[sample.name for sample in samples], batch_size=batch_size)
    else:
        unions = [plan.unions_of(task.candidate.bundle) for task in tasks]
        outcomes = [[without_noise(s.decide_image(u), own) for s, own in zip(segmenters, unions, strict=True)] for u in images]
    seconds = (time.perf_counter() - started) / (len(samples) * len(tasks))
    return {
        task.key(sample): _rows(plan, task, sample, view, outcome, seconds, sigma=sigma)
        for task, of_task, decided in zip(tasks, views, zip(*outcomes, strict=True), strict=True)
        for sample, view, outcome in zip(samples, of_task, decided, strict=True)
    }


def _equal_sigma(together: _Together, task: Task, view: GridPicture) -> float:
    """The noise on the one image's `view` that has the native radius which the task's has under the window of its file."""
    noise_grid, bundle = together.plan.noise_grid_of(task.candidate), task.candidate.bundle
    (picture,) = together.pictures
    as_filed = picture.on_grid(noise_grid.grid, channels=noise_grid.channels, structures=together.plan.names_of(bundle))
    radius_per_sigma = together.plan.parameters_for(bundle, sigma=1.0).radius
    wanted = as_filed.native_radius(task.sigma * radius_per_sigma)
    low, high = bundle.sigma_range
    sigma = task.sigma
    for _ in range(_EQUALISING_STEPS):
        sigma = min(max(sigma * wanted / view.native_radius(sigma * radius_per_sigma), low), high)
    return sigma


def certified_outcomes(
    images: Sequence[NDArray[np.float64]],
    segmenters: Sequence[BaseSegmenter],
    parameters: Sequence[SmoothingParameters],
    *,
    names: Sequence[str],
    batch_size: int,
) -> list[list[Outcome]]:
    """What each segmenter, with its `parameters`, decides about each image on one noise grid: one list an image.

    Draws are seeded by `names`.
    """
    seeds = [seed_of(name) for name in names]
    results = certify_grids(images, segmenters, parameters, seeds=seeds, batch_size=batch_size)
    return [[outcome_of(result, own) for result, own in zip(row, parameters, strict=True)] for row in results]


def seed_of(name: str) -> bytes:
    """The seed of an image's draws: a run must repeat itself, and nobody attacks an evaluation."""
    return hashlib.sha256(f"evaluation {name}".encode()).digest()


def _rows(plan: Plan, task: Task, sample: Sample, view: GridPicture, outcome: Outcome, seconds: float, *, sigma: float) -> list[Row]:
    """`sigma`: of the noise that was drawn, which may be another than the task's."""
    bundle = task.candidate.bundle
    radius = plan.parameters_for(bundle, sigma=sigma).radius if sigma else 0.0
    rows = []
    for plane, (name, members) in enumerate(plan.planes_of(bundle)):
        known = all(view.known[index] for index in members)
        reference = np.asarray(view.masks[list(members)].any(axis=0)) if known else None
        series = outcome.dice_at_radii(plane, reference) if reference is not None and sigma else None
        union = plane - len(bundle.structures)
        rows.append(
            Row(
                image=sample.name,
                group=sample.group,
                bundle=bundle.name,
                bundle_sha256=bundle.sha256,
                method=task.key(sample)[2],
                sigma=task.sigma,
                structure=name,
                radius=radius,
                native_radius=view.native_radius(radius) if radius else 0.0,
                **score_columns(outcome.scores(plane, reference) if reference is not None else None),
                abstain=float(np.mean(outcome.decisions[plane] == ABSTAIN)),
                abstain_image=outcome.abstain_fraction,
                fallback=outcome.fallback_fraction(union) if union >= 0 else math.nan,
                draws=outcome.draws,
                dice_at_radius=" ".join(f"{value:.5f}" for value in series or ()),
                seconds=seconds,
            )
        )
    return rows


def _open(folder: Path, plan: Plan, backend: Backend) -> RowFile:
    """The rows that the folder holds, after checking that they are of the same run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    path, rows, wanted = (
        folder / SETTINGS,
        folder / ROWS,
        {**plan.settings(), "backend": backend.name.partition(" ")[0], "precision": backend.precision, "method_version": METHOD_VERSION},
    )
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableError(f"cannot read {path}: {error}; choose another --out") from error
        if there != wanted:
            different = ", ".join(sorted(name for name in wanted if there.get(name) != wanted[name]))
            raise UsageError(f"{folder} holds another run, which differs in {different}; choose another --out")
    elif rows.exists():
        raise UsageError(f"{rows} holds results of a run that nothing is known of, as {path.name} is missing; choose another --out")
    else:
        write_atomically(path, json.dumps(wanted, indent=1).encode() + b"\n")
    return RowFile(rows, planes={c.bundle.sha256: len(plan.planes_of(c.bundle)) for c in plan.candidates})


def machine(backend: Backend) -> str:
    """Where the figures were computed, for people."""
    device = str(backend.device)
    if device.startswith("cuda"):
        import torch

        return f"{torch.cuda.get_device_name(device)}, {backend.name}, {backend.precision}"
    return f"{cores()} threads of {platform.machine()}, {backend.name}, {backend.precision}"
