"""Chest films: JSRT with the SCR masks, Montgomery County, Shenzhen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isqrt
from pathlib import Path

import numpy as np

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.dataset import Dataset, Sample
from certdicom.research.datasets.layouts.files import MaskFiles, PictureFiles, folders_named, group_masks, left_out, pictures, read_masks
from certdicom.research.datasets.picture import Picture, gray_picture
from certdicom.research.datasets.structures import structure_of

JSRT_BITS = 12


@dataclass(frozen=True)
class JsrtFilm:
    """Reads one `.IMG`: headerless, big-endian, 16 bits of which 12 are used, optical density (the larger value is the darker).

    The published films are 2048 × 2048; any square is read.
    """

    image: Path
    masks: MaskFiles

    def __call__(self) -> Picture:
        words = np.fromfile(self.image, dtype=">u2")
        side = isqrt(len(words))
        if not side or side * side != len(words) or self.image.stat().st_size % 2:
            raise UnreadableError(f"{self.image} has {self.image.stat().st_size} bytes, which is no square film of 16 bits (2048 × 2048)")
        if words.max() >> JSRT_BITS:
            raise UnreadableError(f"{self.image} holds {words.max()}, more than {JSRT_BITS} bits: it must be big-endian as published")
        masks = {structure: read_masks(paths) for structure, paths in self.masks.items()}
        return gray_picture(words.reshape(side, side).astype(np.int32), masks, bits=JSRT_BITS, inverted=True)


def load_jsrt(folder: Path) -> Dataset | None:
    """JSRT (Shiraishi 2000): `*.IMG` anywhere; SCR (van Ginneken 2006): `fold1|fold2/masks/ORGAN/*.gif` anywhere."""
    films = {path.stem.upper(): path for path in sorted(folder.rglob("*")) if path.suffix.lower() == ".img" and path.is_file()}
    if not films:
        return None
    organs = [
        organ for masks in folders_named(folder, "masks") if masks.parent.name.lower() in ("fold1", "fold2") for organ in _folders(masks)
    ]
    if not organs:
        raise UsageError(
            f"{folder} holds {len(films)} JSRT films (*.IMG) but no masks: unpack the SCR database beside them, "
            "so that there is fold1/masks/ORGAN/*.gif and fold2/masks/ORGAN/*.gif"
        )
    parts: dict[str, list[tuple[str, Path]]] = {}
    for organ in organs:
        for path in sorted(organ.glob("*.gif")):
            parts.setdefault(path.stem.upper(), []).append((organ.name, path))
    samples = [Sample(name, name, JsrtFilm(films[name], group_masks(parts[name]))) for name in films if name in parts]
    return _dataset(folder, "JSRT films (*.IMG) with SCR masks", (structure_of(organ.name) for organ in organs), samples, films=len(films))


def load_montgomery(folder: Path) -> Dataset | None:
    """Montgomery County (Jaeger 2014): `CXR_png/MCUCXR_*.png`, `ManualMask/leftMask/`, `ManualMask/rightMask/`."""
    films = {
        name: path for place in folders_named(folder, "CXR_png") for name, path in pictures(place).items() if name.startswith("MCUCXR")
    }
    if not films:
        return None
    sides = {side: [pictures(place) for place in folders_named(folder, f"{side}Mask")] for side in ("left", "right")}
    if missing := [side for side, places in sides.items() if not places]:
        raise UsageError(
            f"{folder} holds {len(films)} Montgomery films but no ManualMask/{missing[0]}Mask folder: unpack the whole archive"
        )
    samples = []
    for name, path in films.items():
        masks = [(f"{side} lung", place[name]) for side, places in sides.items() for place in places if name in place]
        if len(masks) == 2:
            samples.append(Sample(name, name, PictureFiles(path, group_masks(masks), channels=1)))
    return _dataset(folder, "Montgomery County films", ["lungs"], samples, films=len(films))


def load_shenzhen(folder: Path) -> Dataset | None:
    """Shenzhen (Jaeger 2014): `CXR_png/CHNCXR_*.png`; masks (Stirenko 2018): `mask/CHNCXR_*_mask.png`."""
    films = {
        name: path for place in folders_named(folder, "CXR_png") for name, path in pictures(place).items() if name.startswith("CHNCXR")
    }
    if not films:
        return None
    masks = {name.removesuffix("_mask"): path for place in folders_named(folder, "mask", "masks") for name, path in pictures(place).items()}
    if not masks:
        raise UsageError(
            f"{folder} holds {len(films)} Shenzhen films but no masks: put the lung masks into mask/, named like CHNCXR_0001_0_mask.png"
        )
    samples = [
        Sample(name, name, PictureFiles(path, {"lungs": (masks[name],)}, channels=1)) for name, path in films.items() if name in masks
    ]
    return _dataset(folder, "Shenzhen films", ["lungs"], samples, films=len(films))


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir())


def _dataset(folder: Path, layout: str, structures: Iterable[str], samples: list[Sample], *, films: int) -> Dataset:
    if not samples:
        raise UsageError(f"{folder} looks like {layout}, but no film has a mask of the same name: unpack images and masks again")
    return Dataset(
        name=folder.resolve().name,
        folder=folder,
        layout=layout,
        channels=1,
        structures=tuple(dict.fromkeys(structures)),
        samples=tuple(samples),
        notes=left_out(films - len(samples), "films"),
    )
