"""A data set: its samples, which are read when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from certdicom.errors import CertdicomError, UnreadableError, one_line
from certdicom.research.datasets.picture import Picture


@dataclass(frozen=True, eq=False)
class Sample:
    """One image of a data set.

    `name`: unique in the data set; `group`: the patient or video that it comes from, which no split divides; `reader`: reads
    the image and its masks; `part`: the part ("train", "val", "test") that the data set's publisher puts it in, or None.
    """

    name: str
    group: str
    reader: Callable[[], Picture]
    part: str | None = None

    def read(self) -> Picture:
        """The image with its masks. UnreadableError, which names the sample, when a file is missing or damaged."""
        try:
            return self.reader()
        except CertdicomError as error:
            raise type(error)(f"{self.name}: {one_line(error)}") from error
        except (OSError, ValueError, SyntaxError) as error:  # Pillow raises all three for damaged files
            raise UnreadableError(f"cannot read {self.name}: {one_line(error)}; fetch the data set again") from error


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in one folder.

    `name`: the folder's; `layout`: what it was recognised as; `structures` that it has masks of; `channels`: 1 gray, 3 colour;
    `notes`: what a reader should know, such as images without masks that were left out.
    """

    name: str
    folder: Path
    layout: str
    channels: int
    structures: tuple[str, ...]
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()

    @property
    def parts(self) -> Mapping[str, int]:
        """How many samples the publisher put in each part; empty when there is no such split."""
        counts: dict[str, int] = {}
        for sample in self.samples:
            if sample.part is not None:
                counts[sample.part] = counts.get(sample.part, 0) + 1
        return counts
