"""An evaluation: candidates × images × noise levels, image by image, going on where an interrupted one stopped."""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.base_segmenter import BaseSegmenter
from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import Progress, certify_grids
from certdicom.errors import OutputError, UnreadableError, UsageError
from certdicom.files import write_atomically
from certdicom.models.backends.base import Backend
from certdicom.models.backends.cores import cores
from certdicom.pool import Parent, work_in_processes
from certdicom.progress import NoLine
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
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """All rows of the plan; with a `folder`, those that it holds are not computed again and new ones are kept there.

    Draws are seeded by each image's name, so that a run repeats itself. `images_at_once`: how many images' draws may share batches
    (more keep a large device busy); `processes`: so many read images and score decisions while this one makes the draws, 1 for this one
    alone. `progress`: called with (images done, images in all), counted per model and noise level.
    UsageError when the folder holds another run, or something cannot be certified at all.
    """
    plan.require_certifiable()
    kept = _open(folder, plan, backend) if folder is not None else None
    rows: dict[Key, list[Row]] = {row.key: [] for row in kept.rows} if kept else {}
    for row in kept.rows if kept else ():
        rows[row.key].append(row)
    work = _Work(plan)
    together = 1 if plan.equal_radius else images_at_once
    jobs = [work.job(first, together, there=rows) for first in range(0, len(plan.samples), together)]
    device = _Device(work, backend, batch_size, progress, done=sum(work.there(job) for job in jobs))

    with closing(_new_rows([job for job in jobs if job.missing], work, device, processes=processes)) as found:
        for key, new in ((key, of_key) for rows_of_group in found for key, of_key in rows_of_group.items()):
            if key not in rows:
                rows[key] = new
                if kept is not None:
                    kept.append(new)
    return [row for task in tasks_of(plan) for sample in plan.samples for row in rows[task.key(sample)]]


def _new_rows(jobs: Sequence[_Job], work: _Work, device: _Device, *, processes: int) -> Generator[dict[Key, list[Row]], None, None]:
    """What is missing, in the order of the jobs."""
    if processes == 1 or len(jobs) == 1:
        for job in jobs:
            yield from work.rows(job, device.decided)
        return
    with closing(work_in_processes(jobs, work, device, processes=processes, line=lambda _job: NoLine())) as done:
        for _, answer in done:
            if isinstance(answer, Exception):
                raise answer
            yield from answer


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


@dataclass(frozen=True)
class _Job:
    """Images that are computed together, by number, and what of them is missing: groups by number, with the numbers of their tasks."""

    samples: range
    missing: Mapping[int, tuple[int, ...]]


@dataclass(frozen=True, eq=False)
class _Request:
    """What the networks of some tasks of a group are asked about some images, which have names, under noise `sigma`."""

    group: int
    tasks: tuple[int, ...]
    sigma: float
    images: list[NDArray[np.float64]]
    names: list[str]


@dataclass(frozen=True, eq=False)
class _Decided:
    """For each image and task what the sampler decided, or without noise bool (structures, H, W); and how many seconds each took."""

    results: list[list[Any]]
    seconds: float


class _Work:
    """From the images of a plan to rows, in whichever process, but for what the networks decide."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.groups = _groups(tasks_of(plan), plan)

    def job(self, first: int, count: int, *, there: Container[Key]) -> _Job:
        """`count` images from number `first` on."""
        numbers = range(first, min(first + count, len(self.plan.samples)))
        samples = [self.plan.samples[number] for number in numbers]
        missing = {
            place: tuple(number for number, task in enumerate(group) if any(task.key(sample) not in there for sample in samples))
            for place, group in enumerate(self.groups)
        }
        return _Job(numbers, {place: tasks for place, tasks in missing.items() if tasks})

    def there(self, job: _Job) -> int:
        """How many images × tasks of the groups of which nothing is missing."""
        return len(job.samples) * sum(len(group) for place, group in enumerate(self.groups) if place not in job.missing)

    def __call__(self, job: _Job, parent: Parent) -> list[dict[Key, list[Row]]]:
        def decided(request: _Request) -> _Decided:
            parent.ask(request)
            answer: _Decided = parent.answer()
            return answer

        return list(self.rows(job, decided))

    def rows(self, job: _Job, decided: Callable[[_Request], _Decided]) -> Iterator[dict[Key, list[Row]]]:
        """The rows of what is missing, group by group."""
        together = _Together(self.plan, [self.plan.samples[number] for number in job.samples])
        for place, numbers in job.missing.items():
            tasks = [self.groups[place][number] for number in numbers]
            views = [together.views(task) for task in tasks]
            names = [sample.name for sample in together.samples]
            sigma = _sigma(together, tasks[0], views[0])
            found = decided(_Request(place, numbers, sigma, [view.u for view in views[0]], names))
            yield {
                task.key(sample): _rows(self.plan, task, sample, view, self._outcome(task, result, sigma), found.seconds, sigma=sigma)
                for task, of_task, results in zip(tasks, views, zip(*found.results, strict=True), strict=True)
                for sample, view, result in zip(together.samples, of_task, results, strict=True)
            }

    def _outcome(self, task: Task, result: Any, sigma: float) -> Outcome:
        bundle = task.candidate.bundle
        if not sigma:
            return without_noise(result, self.plan.unions_of(bundle))
        return outcome_of(result, self.plan.parameters_for(bundle, sigma=sigma))


class _Device:
    """`pool.Server`: the networks of a plan; `done`: how many images × tasks need none."""

    def __init__(self, work: _Work, backend: Backend, batch_size: int, progress: Callable[[int, int], None] | None, *, done: int) -> None:
        self._work, self._backend, self._batch_size, self._progress = work, backend, batch_size, progress
        self._done, self._all = done, sum(map(len, work.groups)) * len(work.plan.samples)
        self._moved(0)

    def load(self) -> int:
        """Networks are loaded with the first request for them; one at a time, of as many images as it has."""
        return 1

    def serve(self, requests: Sequence[_Request], progress: Progress) -> list[_Decided]:
        return [self.decided(request, progress) for request in requests]

    def decided(self, request: _Request, progress: Progress | None = None) -> _Decided:
        plan, group = self._work.plan, self._work.groups[request.group]
        tasks = [group[number] for number in request.tasks]
        noise_grid, sigma = plan.noise_grid_of(tasks[0].candidate), request.sigma
        segmenters = [base_segmenter(self._backend, task.candidate, noise_grid, sigma=sigma) for task in tasks]
        started = time.perf_counter()
        results: list[list[Any]]
        if sigma:
            results = list(
                certify_grids(
                    request.images,
                    segmenters,
                    [plan.parameters_for(task.candidate.bundle, sigma=sigma) for task in tasks],
                    seeds=[seed_of(name) for name in request.names],
                    batch_size=self._batch_size,
                    progress=progress,
                )
            )
        else:
            results = [[segmenter.decide_image(u) for segmenter in segmenters] for u in request.images]
        seconds = (time.perf_counter() - started) / (len(request.images) * len(tasks))
        self._moved(len(request.images) * len(group))
        return _Decided(results, seconds)

    def _moved(self, more: int) -> None:
        self._done += more
        if self._progress is not None:
            self._progress(self._done, self._all)


def _sigma(together: _Together, task: Task, views: Sequence[GridPicture]) -> float:
    """The task's noise, or that on the only image's view which has the native radius that the task's has under the window of its file."""
    if not together.plan.equal_radius or not task.sigma:
        return task.sigma
    (view,) = views
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

        several = f"{backend.devices} × " if backend.devices > 1 else ""
        return f"{several}{torch.cuda.get_device_name(device.partition(',')[0])}, {backend.name}, {backend.precision}"
    return f"{cores()} threads of {platform.machine()}, {backend.name}, {backend.precision}"
