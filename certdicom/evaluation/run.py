"""An evaluation: candidates × images × noise levels, image by image, going on where an interrupted one stopped."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from certdicom.certification.certificate import ABSTAIN
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.statistics import require_attainable
from certdicom.datasets.dataset import Dataset, Sample
from certdicom.datasets.picture import GridPicture, Picture
from certdicom.datasets.structures import match
from certdicom.errors import OutputError, UnreadableError, UsageError
from certdicom.evaluation.models import CLEAN, BaseSegmenter, Candidate, Loader
from certdicom.evaluation.outcome import Outcome, exclusive, independent, without_noise
from certdicom.evaluation.protocol import Frame, ProtocolName, frame_of, image_tensor
from certdicom.evaluation.rows import Key, Row, RowFile, score_columns
from certdicom.evaluation.votes import count_votes, decide_clean

SETTINGS = "run.json"
ROWS = "per_image.csv"


@dataclass(frozen=True, eq=False)
class Plan:
    """What is evaluated: `samples` of `dataset` (its part `part`), by `candidates`, at every sigma of `sigmas`.

    `parameters`: the others of smoothing; its sigma is not used.
    """

    dataset: Dataset
    part: str
    samples: tuple[Sample, ...]
    candidates: tuple[Candidate, ...]
    sigmas: tuple[float, ...]
    protocol: ProtocolName = "native"
    parameters: SmoothingParameters = field(default_factory=SmoothingParameters)

    def settings(self) -> dict[str, Any]:
        """What rows in one file must have in common; images, models and noise levels may be added to them later."""
        smoothing = {name: value for name, value in asdict(self.parameters).items() if name != "sigma"}
        return {"data": self.dataset.name, "part": self.part, "protocol": self.protocol, "smoothing": json.loads(json.dumps(smoothing))}


@dataclass(frozen=True)
class Task:
    """One candidate at one noise level; sigma 0 is the segmenter without noise."""

    candidate: Candidate
    sigma: float

    def key(self, sample: Sample) -> Key:
        method = self.candidate.method if self.sigma else CLEAN
        return sample.name, self.candidate.bundle.sha256, method, self.sigma


def evaluate(
    plan: Plan,
    *,
    loader: Loader,
    folder: Path | None = None,
    batch_size: int = 10,
    images_at_once: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """All rows of the plan; with a `folder`, those that it holds are not computed again and new ones are kept there.

    Draws are seeded by each image's name, so that a run repeats itself. `images_at_once`: how many images' draws may share batches
    (more keep a large device busy). `progress`: called with (images done, images in all), counted per noise level.
    UsageError when the folder holds another run, or something cannot be certified at all.
    """
    _require_certifiable(plan)
    kept = _open(folder, plan) if folder is not None else None
    rows: dict[Key, list[Row]] = {row.key: [] for row in kept.rows} if kept else {}
    for row in kept.rows if kept else ():
        rows[row.key].append(row)
    tasks = [Task(candidate, sigma) for sigma in (0.0, *plan.sigmas) for candidate in _once(plan.candidates, clean=not sigma)]
    total, done = len(tasks) * len(plan.samples), 0
    for together in _groups(tasks, plan):
        for first in range(0, len(plan.samples), images_at_once):
            samples = plan.samples[first : first + images_at_once]
            missing = [task for task in together if any(task.key(sample) not in rows for sample in samples)]
            if missing:
                for key, new in _compute(plan, missing, samples, loader=loader, batch_size=batch_size).items():
                    if key not in rows:
                        rows[key] = new
                        if kept is not None:
                            kept.append(new)
            done += len(samples) * len(together)
            if progress is not None:
                progress(done, total)
    return [row for task in tasks for sample in plan.samples for row in rows[task.key(sample)]]


def _require_certifiable(plan: Plan) -> None:
    for candidate in plan.candidates:
        match([s.label for s in candidate.bundle.structures], plan.dataset.structures, where=str(plan.dataset.folder))
        frame = frame_of(plan.protocol, candidate.bundle, plan.dataset)
        pixels, p = frame.grid[0] * frame.grid[1], plan.parameters
        families = 1 if candidate.bundle.activation == "softmax" else len(candidate.bundle.structures)
        require_attainable(n=p.n, hypotheses=families * pixels, tau=p.tau, alpha=p.alpha)
        for sigma in plan.sigmas:
            candidate.require_sigma(replace(p, sigma=sigma).sigma, frame)


def _once(candidates: Sequence[Candidate], *, clean: bool) -> list[Candidate]:
    """All candidates; for the clean scores, one of each bundle."""
    return list({c.bundle.sha256: c for c in reversed(candidates)}.values())[::-1] if clean else list(candidates)


def _groups(tasks: Sequence[Task], plan: Plan) -> list[list[Task]]:
    """Tasks that share their noise images: equal sigma and equal frame."""
    groups: dict[tuple[float, Frame], list[Task]] = {}
    for task in tasks:
        groups.setdefault((task.sigma, frame_of(plan.protocol, task.candidate.bundle, plan.dataset)), []).append(task)
    return list(groups.values())


def _compute(plan: Plan, tasks: Sequence[Task], samples: Sequence[Sample], *, loader: Loader, batch_size: int) -> dict[Key, list[Row]]:
    started = time.perf_counter()
    sigma, frame = tasks[0].sigma, frame_of(plan.protocol, tasks[0].candidate.bundle, plan.dataset)
    segmenters = [loader.base_segmenter(task.candidate, frame, sigma=sigma) for task in tasks]
    views = [[_view(task, picture, frame, plan) for task in tasks] for picture in (sample.read() for sample in samples)]
    images = [image_tensor(row[0].u, loader.device) for row in views]
    if sigma:
        outcomes = certified_outcomes(
            images, segmenters, replace(plan.parameters, sigma=sigma), names=[sample.name for sample in samples], batch_size=batch_size
        )
    else:
        outcomes = [[without_noise(decide_clean(image, segmenter)) for segmenter in segmenters] for image in images]
    seconds = (time.perf_counter() - started) / (len(samples) * len(tasks))
    return {
        task.key(sample): _rows(plan, task, sample, view, outcome, seconds)
        for sample, row, decided in zip(samples, views, outcomes, strict=True)
        for task, view, outcome in zip(tasks, row, decided, strict=True)
    }


def certified_outcomes(
    images: Sequence[Tensor], segmenters: Sequence[BaseSegmenter], parameters: SmoothingParameters, *, names: Sequence[str], batch_size: int
) -> list[list[Outcome]]:
    """What each segmenter decides about each image of one frame: one list an image; draws are seeded by `names`."""
    votes = count_votes(
        images,
        segmenters,
        sigma=parameters.sigma,
        seeds=[hashlib.sha256(f"evaluation {name}".encode()).digest() for name in names],
        n0=parameters.n0,
        n=parameters.n,
        batch_size=batch_size,
    )
    return [
        [(exclusive if s.exclusive else independent)(vote, parameters) for s, vote in zip(segmenters, row, strict=True)] for row in votes
    ]


def _view(task: Task, picture: Picture, frame: Frame, plan: Plan) -> GridPicture:
    labels = [structure.label for structure in task.candidate.bundle.structures]
    names = match(labels, plan.dataset.structures, where=str(plan.dataset.folder))
    return picture.on_grid(frame.grid, channels=frame.channels, structures=[names.get(label, "") for label in labels])


def _rows(plan: Plan, task: Task, sample: Sample, view: GridPicture, outcome: Outcome, seconds: float) -> list[Row]:
    bundle, sigma = task.candidate.bundle, task.sigma
    radius = replace(plan.parameters, sigma=sigma).radius if sigma else 0.0
    rows = []
    for index, structure in enumerate(bundle.structures):
        reference = view.masks[index] if view.known[index] else None
        series = outcome.dice_at_radii(index, reference) if reference is not None and sigma else None
        rows.append(
            Row(
                image=sample.name,
                group=sample.group,
                bundle=bundle.name,
                bundle_sha256=bundle.sha256,
                method=task.key(sample)[2],
                sigma=sigma,
                structure=structure.label,
                radius=radius,
                native_radius=radius * view.native_scale,
                **score_columns(outcome.scores(index, reference) if reference is not None else None),
                abstain=float(np.mean(outcome.decisions[index] == ABSTAIN)),
                abstain_image=outcome.abstain_fraction,
                dice_at_radius=" ".join(f"{value:.5f}" for value in series or ()),
                seconds=seconds,
            )
        )
    return rows


def _open(folder: Path, plan: Plan) -> RowFile:
    """The rows that the folder holds, after checking that they are of the same run."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another") from error
    path, wanted = folder / SETTINGS, plan.settings()
    if path.exists():
        try:
            there = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableError(f"cannot read {path}: {error}; remove it or choose another --out") from error
        if there != wanted:
            different = ", ".join(sorted(name for name in wanted if there.get(name) != wanted[name]))
            raise UsageError(f"{folder} holds another run, which differs in {different}; choose another --out")
    else:
        path.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")
    return RowFile(folder / ROWS, structures={c.bundle.sha256: len(c.bundle.structures) for c in plan.candidates})


def machine() -> str:
    """Where the figures were computed, for people."""
    import platform

    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return f"{torch.get_num_threads()} threads of {platform.machine()}, PyTorch {torch.__version__}"
