"""Plain folders: `images/ID.*`, `masks/STRUCTURE/ID.*` or `masks/ID.*`, and optionally `split.csv`."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.layouts.files import PictureFiles, group_masks, left_out, pictures
from certdicom.research.datasets.structures import FOREGROUND, structure_of

_GROUPS = ("group", "patient", "video")


def load_plain(folder: Path) -> Dataset | None:
    """`split.csv` has the columns id and split, and may have one of group, patient or video, which a seeded split keeps whole.

    With it, only the images that it lists are there. Images are gray or colour as the first one is.
    """
    if not (folder / "images").is_dir():
        return None
    images = pictures(folder / "images")
    place = folder / "masks"
    if not images or not place.is_dir():
        raise UsageError(
            f"{folder} needs images/ID.png and masks/STRUCTURE/ID.png or masks/ID.png; {place if images else 'images/'} is empty"
        )
    kinds = {kind.name: pictures(kind) for kind in sorted(place.iterdir()) if kind.is_dir()}
    if unnamed := pictures(place):
        kinds[FOREGROUND] = unnamed
    rows = _split(folder, images)
    channels = _channels(next(iter(images.values())))
    samples = []
    for name, row in rows.items():
        masks = group_masks((kind, files[name]) for kind, files in kinds.items() if name in files)
        if masks:
            group = next((row[column] for column in _GROUPS if row.get(column)), name)
            samples.append(Sample(name, group, PictureFiles(images[name], masks, channels), part=row.get("split") or None))
    if not samples:
        raise UsageError(f"{folder} has {len(images)} images but no mask of the same name in {place}")
    structures = tuple(dict.fromkeys(structure_of(kind) for kind in kinds))
    notes = left_out(len(rows) - len(samples))
    return Dataset(folder.resolve().name, folder, "images/ and masks/", channels, structures, tuple(samples), notes)


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
    """3 for a picture with colour in it, else 1: many gray films are stored as RGB."""
    try:
        with Image.open(path) as picture:
            if picture.mode in ("1", "L", "LA") or picture.mode.startswith(("I", "F")):
                return 1
            pixels = np.asarray(picture.convert("RGB"))
    except OSError as error:
        raise UnreadableError(f"cannot read {path}: {error}") from error
    return 1 if bool((pixels == pixels[..., :1]).all()) else 3
