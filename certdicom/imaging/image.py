"""A radiograph and a colour photograph: an image as stored, how it is shown, and what its header says."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.certification.certificate import Medium
from certdicom.imaging.rendering import Presentation, Rendering


@dataclass(frozen=True, eq=False, repr=False)
class SourceImage:
    """One image, decoded and not otherwise touched.

    `dataset`: the data set as read, pixel data included; `stored_values`: of which shape and meaning, the subclasses say;
    `presentation`: the ways to show it; `file_sha256`: hex digest of the bytes that were read; `notes`: anything
    odd that was met and how it was taken. `native_unit` names what `stored_values` counts, `medium` the image in a word.
    """

    dataset: Dataset
    stored_values: NDArray[np.integer]
    presentation: Presentation
    file_sha256: str
    notes: tuple[str, ...] = ()

    medium: ClassVar[Medium]
    native_unit: ClassVar[str]

    def __repr__(self) -> str:
        """What it is and how large: nothing that could name a patient."""
        return f"{type(self).__name__}({self.rows} × {self.columns}, {self.stored_values.dtype})"

    @property
    def rows(self) -> int:
        return int(self.stored_values.shape[-2])

    @property
    def columns(self) -> int:
        return int(self.stored_values.shape[-1])

    @property
    def planes(self) -> NDArray[np.integer]:
        """The stored values as (channels, rows, columns)."""
        return self.stored_values.reshape(-1, self.rows, self.columns)

    @property
    def channels(self) -> int:
        """1 for gray, 3 for colour."""
        return len(self.planes)

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)

    @property
    def declares_padding(self) -> bool:
        """Whether values of pixels say that they are no image (PixelPaddingValue), so that a change of one may make it such."""
        return bool(self.dataset.get("PixelPaddingValue") is not None)

    @cached_property
    def rendering(self) -> Rendering:
        """How people see it: by the header, or else from the 1st to the 99th percentile. What is certified says so of itself."""
        return self.presentation.for_readers(self.planes[0])

    def display(self) -> NDArray[np.float32]:
        """The whole image as people see it, float32 in [0, 1]: (rows, columns) gray, (rows, columns, 3) colour."""
        shown = self.rendering.display(self.planes)
        return np.asarray(shown[0] if self.channels == 1 else np.moveaxis(shown, 0, -1))


@dataclass(frozen=True, eq=False, repr=False)
class Radiograph(SourceImage):
    """One frontal radiograph.

    `stored_values` (rows, columns) int32: pixel values after decompression, sign-extended and without unused or overlay bits.
    """

    stored_values: NDArray[np.int32]

    medium: ClassVar[Medium] = "film"
    native_unit: ClassVar[str] = "stored values"


@dataclass(frozen=True, eq=False, repr=False)
class Photograph(SourceImage):
    """One colour photograph: of the skin, of what an endoscope sees, or captured from elsewhere.

    `stored_values` (3, rows, columns) uint8 or uint16: red, green and blue after decompression, conversion from YBR and the
    palette. Its rendering shows the full range of its bits, the same for all three and for every photograph.
    """

    stored_values: NDArray[np.unsignedinteger]

    medium: ClassVar[Medium] = "photograph"
    native_unit: ClassVar[str] = "RGB values"
