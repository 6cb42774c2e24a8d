"""Which samples train, validate and test: as published, by a list file, or by a seed, patients and videos kept whole."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.dataset import Dataset, Sample

SHARES = {"train": 0.7, "val": 0.1, "test": 0.2}
"""The paper's split (Laousy et al. 2023)."""

ALL = "all"


def select(dataset: Dataset, part: str, *, listing: Path | None = None, seed: int | None = None) -> tuple[Sample, ...]:
    """The samples of one part ("train", "val", "test", or "all"), in the data set's order.

    `listing`: a CSV file with the columns id and split, or one name a line; otherwise the split that comes with the data set,
    unless a `seed` is given; otherwise drawn by the seed (0), 70/10/20. UsageError when the part is empty or a name unknown.
    """
    if listing is not None and seed is not None:
        raise UsageError(f"both a list file ({listing}) and a seed ({seed}) were given for the split; give one of them")
    if part == ALL:
        return dataset.samples
    if listing is not None:
        samples = _listed(dataset, part, listing)
    elif seed is None and dataset.parts:
        samples = tuple(sample for sample in dataset.samples if sample.part == part)
        if not samples:
            there = ", ".join(f"{name} ({count})" for name, count in sorted(dataset.parts.items()))
            raise UsageError(f"{dataset.folder} comes with a split that has no part {part!r}; it has {there}; or give --split-seed")
    else:
        samples = tuple(sample for sample in draw(dataset.samples, seed=seed or 0) if sample.part == part)
    if not samples:
        known = ", ".join((*SHARES, ALL))
        raise UsageError(f"no image of {dataset.folder} is in part {part!r}; parts are {known}")
    return samples


def draw(samples: Sequence[Sample], *, seed: int) -> tuple[Sample, ...]:
    """`samples` with parts drawn by the seed, 70/10/20 of the images; a patient or video is in one part as a whole.

    The order of drawing hangs on the seed and the group's name alone, so that it is the same on every machine.
    """
    sizes: dict[str, int] = {}
    for sample in samples:
        sizes[sample.group] = sizes.get(sample.group, 0) + 1
    order = sorted(sizes, key=lambda group: hashlib.sha256(f"split {seed} {group}".encode()).digest())
    part_of, placed = {}, 0
    bounds = (SHARES["train"] * len(samples), (SHARES["train"] + SHARES["val"]) * len(samples))
    for group in order:
        middle = placed + sizes[group] / 2
        part_of[group] = "train" if middle < bounds[0] else "val" if middle < bounds[1] else "test"
        placed += sizes[group]
    return tuple(replace(sample, part=part_of[sample.group]) for sample in samples)


def read_listing(path: Path) -> dict[str, str | None]:
    """Name → part from a CSV file with the columns id and split; part None from a file of one name a line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableError(f"cannot read the list file {path}: {error}") from error
    rows = [line for line in lines if line.strip()]
    if rows and "," in rows[0]:
        table = list(csv.DictReader(rows))
        if not {"id", "split"} <= set(table[0] if table else ()):
            raise UsageError(f"{path} must have the columns id and split, not {rows[0]!r}")
        return {row["id"]: row["split"] for row in table}
    return {row.strip(): None for row in rows}


def _listed(dataset: Dataset, part: str, listing: Path) -> tuple[Sample, ...]:
    names = {name for name, where in read_listing(listing).items() if where in (part, None)}
    if unknown := names - {sample.name for sample in dataset.samples}:
        raise UsageError(f"{listing} names {len(unknown)} images that {dataset.folder} has not, such as {min(unknown)!r}")
    return tuple(sample for sample in dataset.samples if sample.name in names)
