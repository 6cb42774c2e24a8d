"""Colour photographs: ISIC 2018 task 1 (skin lesions) and CVC-ClinicDB (polyps in colonoscopy)."""

from __future__ import annotations

import csv
from pathlib import Path

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.layouts.files import PictureFiles, folders_named, left_out, natural, pictures

_STAGES = {"training": "train", "validation": "val", "test": "test"}
_RUN = 25
"""The longest sequence of CVC-ClinicDB, in frames."""


def load_isic2018(folder: Path) -> Dataset | None:
    """ISIC 2018 task 1 (Codella 2019): `ISIC2018_Task1-2_*_Input/ISIC_*.jpg`, `ISIC2018_Task1_*_GroundTruth/*_segmentation.png`.

    With more than one of Training, Validation and Test there, these are the parts.
    """
    places = [folder, *(path for path in sorted(folder.glob("*")) if path.is_dir())]
    inputs = [path for path in places if path.name.startswith("ISIC2018_Task1") and path.name.endswith("_Input")]
    if not inputs:
        return None
    photographs, masks = {}, {}
    for place in inputs:
        stage = next((part for word, part in _STAGES.items() if word in place.name.lower()), None)
        photographs.update({name: (path, stage) for name, path in pictures(place).items() if path.suffix.lower() in (".jpg", ".jpeg")})
    for place in places:
        if place.name.startswith("ISIC2018_Task1_") and place.name.endswith("_GroundTruth"):
            masks.update({name.removesuffix("_segmentation"): path for name, path in pictures(place).items()})
    if not any(name in masks for name in photographs):
        raise UsageError(
            f"{folder} holds {len(photographs)} ISIC 2018 images in {inputs[0].name} but no masks of them: "
            "unpack ISIC2018_Task1_*_GroundTruth beside it"
        )
    stages = {stage for _, stage in photographs.values()}
    samples = tuple(
        Sample(name, name, PictureFiles(path, {"lesion": (masks[name],)}, channels=3), part=stage if len(stages) > 1 else None)
        for name, (path, stage) in photographs.items()
        if name in masks
    )
    return _dataset(folder, "ISIC 2018 task 1", "lesion", samples, left_out(len(photographs) - len(samples)))


def load_cvc_clinicdb(folder: Path) -> Dataset | None:
    """CVC-ClinicDB (Bernal 2015): `Original/N.tif|png`, `Ground Truth/N.tif|png`, and `metadata.csv` where there is one.

    The sequences stand in metadata.csv (columns frame_id and sequence_id); without it, runs of 25 consecutive frames keep
    neighbours together.
    """
    originals = folders_named(folder, "Original")
    truths = {place.parent: pictures(place) for place in folders_named(folder, "Ground Truth", "Ground_Truth", "GroundTruth")}
    if not originals:
        return None
    place = next((place for place in originals if truths.get(place.parent)), None)
    if place is None:
        raise UsageError(f"{folder} has CVC-ClinicDB's Original but no 'Ground Truth' beside it: unpack the whole archive")
    frames, masks = pictures(place), truths[place.parent]
    videos = _sequences(folder, place)
    runs = () if videos else ("no metadata.csv: runs of 25 consecutive frames are kept together, not whole videos",)
    samples = tuple(
        Sample(
            name, f"sequence {videos[name]}" if name in videos else _run(name), PictureFiles(path, {"polyp": (masks[name],)}, channels=3)
        )
        for name, path in frames.items()
        if name in masks
    )
    if not samples:
        raise UsageError(f"{place} and its 'Ground Truth' have no frame in common: unpack both again")
    return _dataset(folder, "CVC-ClinicDB", "polyp", samples, (*runs, *left_out(len(frames) - len(samples), "frames")))


def _sequences(folder: Path, place: Path) -> dict[str, str]:
    """Frame → sequence from metadata.csv in the data set's folder or above the frames; empty without one."""
    for where in (folder, place.parent, place.parent.parent):
        table = where / "metadata.csv"
        if table.is_file():
            rows = list(csv.DictReader(table.read_text(encoding="utf-8-sig").splitlines()))
            if not rows or not {"frame_id", "sequence_id"} <= set(rows[0]):
                raise UnreadableError(f"{table} must have the columns frame_id and sequence_id; remove or replace it")
            return {row["frame_id"].strip(): row["sequence_id"].strip() for row in rows}
    return {}


def _run(name: str) -> str:
    kind, number, _ = natural(name)
    return name if kind else f"frames {(number - 1) // _RUN * _RUN + 1} and on"


def _dataset(folder: Path, layout: str, structure: str, samples: tuple[Sample, ...], notes: tuple[str, ...]) -> Dataset:
    return Dataset(
        name=folder.resolve().name, folder=folder, layout=layout, channels=3, structures=(structure,), samples=samples, notes=notes
    )
