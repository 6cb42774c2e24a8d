"""A radiograph as certdicom sees it: the film's stored values, how they are shown, and what the header says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from certdicom.imaging.rendering import Rendering


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One frontal radiograph, decoded and not otherwise touched.

    `dataset`: the film's data set as read, pixel data included; `stored_values` (rows, columns): pixel values after
    decompression, sign-extended and without unused or overlay bits; `rendering`: from stored values to [0, 1];
    `file_sha256`: hex digest of the bytes that were read; `notes`: anything odd that was met and how it was taken.
    """

    dataset: Dataset
    stored_values: NDArray[np.int32]
    rendering: Rendering
    file_sha256: str
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return int(self.stored_values.shape[0])

    @property
    def columns(self) -> int:
        return int(self.stored_values.shape[1])

    @property
    def sop_instance_uid(self) -> str:
        return str(self.dataset.SOPInstanceUID)
