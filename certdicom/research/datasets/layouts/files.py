"""What the layouts share: finding files, pairing images with masks, reading pictures of common formats."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from certdicom.research.datasets.picture import Picture, colour_picture, gray_picture
from certdicom.research.datasets.structures import structure_of

PICTURES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp", ".gif"})

MaskFiles = Mapping[str, tuple[Path, ...]]
"""Structure → the files that together show it: left and right lung, for example."""


@dataclass(frozen=True)
class PictureFiles:
    """Reads one image file with its mask files; `channels` 1 reads it as gray, 3 as RGB; `unsure`: of masks that are pseudo-labels."""

    image: Path
    masks: MaskFiles
    channels: int
    unsure: MaskFiles = field(default_factory=dict)

    def __call__(self) -> Picture:
        masks, unsure = ({structure: read_masks(paths) for structure, paths in files.items()} for files in (self.masks, self.unsure))
        with Image.open(self.image) as picture:
            if self.channels == 3:
                return colour_picture(np.asarray(picture.convert("RGB")), masks, unsure)
            sixteen_bits = picture.mode.startswith("I")  # Pillow's modes of 16-bit gray: I and I;16
            levels = np.asarray(picture if sixteen_bits else picture.convert("L"), dtype=np.int32)
            return gray_picture(levels, masks, unsure, bits=16 if sixteen_bits else 8)


def read_masks(paths: Iterable[Path]) -> NDArray[np.bool_]:
    """The union of mask files, bool (rows, columns); a pixel is on above the middle of the format's range."""
    union: NDArray[np.bool_] | None = None
    for path in paths:
        with Image.open(path) as picture:
            plane = np.asarray(picture.convert("L")) > 127
        union = plane if union is None else union | plane
    if union is None:
        raise ValueError("no mask file")
    return union


def pictures(folder: Path) -> dict[str, Path]:
    """Name without ending → image file, of one folder, in natural order."""
    found = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES and not path.name.startswith("."))
    return {path.stem: path for path in sorted(found, key=lambda path: natural(path.stem))}


def natural(name: str) -> tuple[int, int, str]:
    """Sorts "2" before "10", and names that are no numbers after them by the alphabet."""
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def folders_named(root: Path, *names: str) -> list[Path]:
    """Folders of one of these names (any case) in `root`, itself and three levels down."""
    wanted = {name.lower() for name in names}
    places = [root] if root.is_dir() else []
    for depth in range(1, 4):
        places += [path for path in sorted(root.glob("/".join(["*"] * depth))) if path.is_dir()]
    return [path for path in places if path.name.lower() in wanted]


def group_masks(masks: Iterable[tuple[str, Path]]) -> MaskFiles:
    """(name of a part, file) pairs → files per structure."""
    grouped: dict[str, tuple[Path, ...]] = {}
    for part, path in masks:
        grouped[structure_of(part)] = (*grouped.get(structure_of(part), ()), path)
    return grouped


def left_out(count: int, kind: str = "images") -> tuple[str, ...]:
    """The note on images without masks."""
    return (f"{count} {kind} without a mask were left out",) if count else ()
