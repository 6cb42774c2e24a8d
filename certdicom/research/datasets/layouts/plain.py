"""Plain folders: `images/ID.*`, optionally `masks/STRUCTURE/ID.*` or `masks/ID.*`, `unsure/STRUCTURE/ID.*` and `split.csv`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.layouts.files import PictureFiles, group_masks, left_out, pictures
from certdicom.research.datasets.structures import FOREGROUND, structure_of

UNSURE = "unsure"
"""The folder of the pixels about which a pseudo-label says nothing."""

_GROUPS = ("group", "patient", "video")

_GRAY_WITHIN = 12
"""Levels of 255 by which the channels of all but a hundredth of the pixels may differ in a gray picture that was stored as lossy RGB."""


def load_plain(folder: Path) -> Dataset | None:
    """`split.csv` has the columns id and split, and may have one of group, patient or video, which a seeded split keeps whole.

    With it, only the images that it lists are there. Without `masks/` it is a data set of images alone, for denoisers. A mask with a file
    in `unsure/` is a pseudo-label (`certdicom train pseudo-labels`).
    Images are gray or colour as the first one is.
    """
    if not (folder / "images").is_dir():
        return None
    images = pictures(folder / "images")
    place = folder / "masks"
    if not images:
        raise UsageError(
            f"{folder} needs images/ID.png, and masks/STRUCTURE/ID.png or masks/ID.png for all but denoisers; images/ is empty"
        )
    rows = _split(folder, images)
    channels = _channels(next(iter(images.values())))
    alone = not place.is_dir()
    kinds = {} if alone else {kind.name: pictures(kind) for kind in sorted(place.iterdir()) if kind.is_dir()}
    if not alone and (unnamed := pictures(place)):
        kinds[FOREGROUND] = unnamed
    doubts = folder / UNSURE
    unsure = {kind.name: pictures(kind) for kind in sorted(doubts.iterdir()) if kind.is_dir()} if doubts.is_dir() else {}
    samples = []
    for name, row in rows.items():
        masks = group_masks((kind, files[name]) for kind, files in kinds.items() if name in files)
        if masks or alone:
            open_to_doubt = group_masks((kind, files[name]) for kind, files in unsure.items() if name in files)
            reader = PictureFiles(images[name], masks, channels, open_to_doubt)
            samples.append(Sample(name, _group(row, name), reader, part=row.get("split") or None))
    if not samples:
        raise UsageError(f"{folder} has {len(images)} images but no mask of the same name in {place}")
    structures = tuple(dict.fromkeys(structure_of(kind) for kind in kinds))
    layout = "images/ alone" if alone else "images/ and masks/"
    return Dataset(folder.resolve().name, folder, layout, channels, structures, tuple(samples), left_out(len(rows) - len(samples)))


def _group(row: dict[str, str], name: str) -> str:
    """The patient or video that an image is of; itself where the table does not tell."""
    return next((row[column] for column in _GROUPS if row.get(column)), name)


def _split(folder: Path, images: dict[str, Path]) -> dict[str, dict[str, str]]:
    table = folder / "split.csv"
    if not table.is_file():
        return {name: {} for name in images}
    rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
    if not rows or not {"id", "split"} <= set(rows[0]):
        raise UnreadableError(f"{table} must have the columns id and split and at least one row")
    if missing := [row["id"] for row in rows if row["id"] not in images]:
        raise UsageError(f"{table} lists {len(missing)} images that are not in images/, such as {missing[0]!r}: correct it")
    return {row["id"]: row for row in rows}


def _channels(path: Path) -> int:
    """3 for a picture with colour in it, else 1: many gray films are stored as RGB, and lossy compression leaves a tint."""
    try:
        with Image.open(path) as picture:
            if picture.mode in ("1", "L", "LA") or picture.mode.startswith(("I", "F")):
                return 1
            pixels = np.asarray(picture.convert("RGB")).astype(np.int16)
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error}") from error
    return 1 if np.percentile(np.ptp(pixels, axis=-1), 99) <= _GRAY_WITHIN else 3
