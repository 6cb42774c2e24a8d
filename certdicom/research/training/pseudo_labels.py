"""Pseudo-labels: what trained segmenters say of the structures that a data set has no masks of, for others to learn from."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from certdicom.certification.sampling import Progress
from certdicom.errors import OutputError, UsageError
from certdicom.models.backends.torch import load_network
from certdicom.models.bundle import Bundle
from certdicom.models.description import SEGMENTER
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.layouts.plain import UNSURE
from certdicom.research.datasets.loading import load_dataset
from certdicom.research.datasets.picture import GridPicture
from certdicom.research.datasets.splits import select
from certdicom.research.datasets.structures import structure_of
from certdicom.research.training.anatomy import CHEST

UNSURE_BETWEEN = (0.2, 0.8)
"""Probabilities between which a pixel of a pseudo-label is left out."""

DROPPED = "dropped.csv"


@dataclass(frozen=True)
class Written:
    """What was made: the `folder` of the new data set, how many images it holds, how many masks are pseudo-labels, and how many images
    were left out because no chest was found on them; `dropped.csv` there names those.
    """

    folder: Path
    kept: int
    labelled: int
    dropped: int


def write_pseudo_labels(
    folder: Path,
    out: Path,
    *,
    teachers: Sequence[Bundle],
    structures: Sequence[str],
    listing: Path | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> Written:
    """Copy the data set in `folder` to `out` on the teachers' grid, with masks of all `structures`; parts as in `splits.select`.

    A mask that is there stays. Others are the mean probability of the `teachers` on an image and its mirror image, above one half; what
    lies in UNSURE_BETWEEN is noted as unsure. Only images to train on get pseudo-labels: all, where the data set has no masks and no parts.
    UsageError when the teachers' grids differ or none has a structure, OutputError when `out` is not empty.
    """
    if len({(teacher.shape, teacher.channels) for teacher in teachers}) > 1:
        raise UsageError("the teachers differ in grid or channels: give bundles of the same")
    for structure in structures:
        if not any(structure_of(structure) in _labels(teacher) for teacher in teachers):
            raise UsageError(f"no teacher knows {structure}: they know {', '.join(sorted({n for t in teachers for n in _labels(t)}))}")
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out} is not empty: give another --out, or remove what is there")
    dataset = load_dataset(folder)
    answer = _Teachers(teachers, structures)
    parts = _parts(dataset, listing=listing, seed=seed)
    total = sum(len(samples) for samples in parts.values())
    rows: list[dict[str, str]] = []
    dropped: list[dict[str, str]] = []
    labelled = done = 0
    for part, samples in parts.items():
        for sample in samples:
            picture = sample.read().on_grid(
                teachers[0].shape, channels=teachers[0].channels, structures=[structure_of(structure) for structure in structures]
            )
            taught = answer.to(picture) if part == "train" and not picture.known.all() else None
            if taught is not None and taught.objection:
                dropped.append({"id": sample.name, "why": taught.objection})
            else:
                labelled += _write(out, sample, picture, structures, taught)
                rows.append({"id": sample.name, "split": part, "group": sample.group})
            done += 1
            if progress:
                progress(done, total)
    _table(out / "split.csv", ("id", "split", "group"), rows)
    _table(out / DROPPED, ("id", "why"), dropped)
    return Written(out, kept=len(rows), labelled=labelled, dropped=len(dropped))


@dataclass(frozen=True)
class _Taught:
    """Pseudo-labels and unsure pixels, (structures, rows, columns) bool; `objection`: why the image is no chest, or "" if it may be one."""

    masks: NDArray[np.bool_]
    unsure: NDArray[np.bool_]
    objection: str


class _Teachers:
    def __init__(self, teachers: Sequence[Bundle], structures: Sequence[str]) -> None:
        self._networks: list[tuple[nn.Module, list[int | None]]] = []
        for teacher in teachers:
            known = _labels(teacher)
            places = [known.index(structure_of(name)) if structure_of(name) in known else None for name in structures]
            self._networks.append((load_network(teacher, SEGMENTER), places))
        chest = tuple(structures) == CHEST
        self._anatomy = next((teacher.anatomy for teacher in teachers if chest and teacher.anatomy is not None), None)

    @torch.inference_mode()
    def to(self, picture: GridPicture) -> _Taught:
        """Their mean answer to an image and its mirror image; a mask that is known stands in the judgement of the anatomy."""
        image = torch.from_numpy(picture.u.astype(np.float32))
        both = torch.stack([image, image.flip(-1)])
        sums, votes = np.zeros(picture.masks.shape), np.zeros(len(picture.masks))
        for network, places in self._networks:
            plain, mirrored = network(both).sigmoid()
            mean = ((plain + mirrored.flip(-1)) / 2).numpy()
            for index, place in enumerate(places):
                if place is not None:
                    sums[index] += mean[place]
                    votes[index] += 1
        probability = sums / votes[:, None, None]
        low, high = UNSURE_BETWEEN
        masks = np.where(picture.known[:, None, None], picture.masks, probability > 0.5)
        judged = None if self._anatomy is None else self._anatomy.judge(masks, picture.u[0].astype(np.float32))
        objection = "" if judged is None or judged.plausible else judged.objections[0]
        return _Taught(masks, (probability > low) & (probability < high), objection)


def _labels(bundle: Bundle) -> list[str]:
    return [structure_of(structure.label) for structure in bundle.structures]


def _parts(dataset: Dataset, *, listing: Path | None, seed: int | None) -> dict[str, tuple[Sample, ...]]:
    """The samples to train on and to validate on; all are to train on where nothing divides them and there are no masks to validate by."""
    if listing is None and seed is None:
        if not dataset.parts and not dataset.structures:
            return {"train": dataset.samples}
        if dataset.parts and "val" not in dataset.parts:
            return {"train": select(dataset, "train")}
    return {part: select(dataset, part, listing=listing, seed=seed) for part in ("train", "val")}


def _write(out: Path, sample: Sample, picture: GridPicture, structures: Sequence[str], taught: _Taught | None) -> int:
    """Write one image with its masks; how many of them are pseudo-labels."""
    _save(_levels(picture.u), out / "images" / f"{sample.name}.png")
    count = 0
    for index, structure in enumerate(structures):
        if picture.known[index]:
            _save(picture.masks[index], out / "masks" / structure / f"{sample.name}.png")
        elif taught is not None:
            _save(taught.masks[index], out / "masks" / structure / f"{sample.name}.png")
            _save(taught.unsure[index], out / UNSURE / structure / f"{sample.name}.png")
            count += 1
    return count


def _levels(u: NDArray[np.float64]) -> NDArray[Any]:
    """16 bits for gray, 8 for colour."""
    if len(u) == 1:
        return np.round(u[0] * 65535).astype(np.uint16)
    return np.round(np.moveaxis(u, 0, -1) * 255).astype(np.uint8)


def _save(pixels: NDArray[Any], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def _table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
