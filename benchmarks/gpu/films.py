"""Films for the GPU benchmark: packed sets as one plain data set that `certdicom train --data` reads, and films as DICOM files."""

from __future__ import annotations

import csv
import io
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

STRUCTURES = ("lungs", "heart", "clavicles")


def unpack(films: Path, folder: Path) -> int:
    """`images/`, `masks/STRUCTURE/` and `split.csv` of all packed sets; how many films they are."""
    rows: list[tuple[str, str]] = []
    for archive in sorted(films.glob("*.tar")):
        part = archive.stem.rpartition("_")[2]
        table = np.load(archive.with_suffix(".npz"))
        masks, known = np.unpackbits(table["masks"], axis=-1).astype(bool), table["known"]
        places = {str(name): place for place, name in enumerate(table["names"])}
        with tarfile.open(archive) as tar:
            for member in tar:
                name, stream = Path(member.name).stem, tar.extractfile(member)
                if stream is None or name not in places:
                    continue
                own = f"{archive.stem}-{name}"
                rows.append((own, part))
                write(folder / "images" / f"{own}.png", np.asarray(Image.open(io.BytesIO(stream.read())).convert("L")))
                for index, structure in enumerate(STRUCTURES):
                    if known[places[name], index] > 0:
                        write(folder / "masks" / structure / f"{own}.png", masks[places[name], index].astype(np.uint8) * 255)
    with (folder / "split.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("id", "split"), *rows])
    return len(rows)


def write(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, compress_level=1)


def images_of(folder: Path | None, count: int, *, side: int) -> list[NDArray[np.float64]]:
    """Films (1, side, side) in [0, 1]: of the part val of a plain data set, or synthetic ones; 256 is a multiple of `side`."""
    if folder is not None:
        with (folder / "split.csv").open(newline="") as stream:
            names = [row["id"] for row in csv.DictReader(stream) if row["split"] == "val"]
        chosen = [names[index * len(names) // count] for index in range(min(count, len(names)))]
        pictures = [np.asarray(Image.open(folder / "images" / f"{name}.png"), np.float64) / 255 for name in chosen]
    else:
        from certdicom.imaging.synthetic.phantom import chest_phantom

        pictures = [np.clip(chest_phantom(256, 256, seed=seed).density, 0, 1).astype(np.float64) for seed in range(count)]
    factor = 256 // side
    return [picture.reshape(1, side, factor, side, factor).mean((2, 4)) for picture in pictures]


def write_dicom(folder: Path, count: int, *, side: int) -> None:
    """Synthetic films of `side` × `side` pixels as uncompressed DICOM files."""
    from certdicom.imaging.synthetic import synthetic_film, write_film

    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(count):
        write_film(synthetic_film(rows=side, columns=side, seed=seed)[0], folder / f"{seed:03d}.dcm")
