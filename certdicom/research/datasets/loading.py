"""A folder → the data set that is in it, whichever layout it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.dataset import Dataset
from certdicom.research.datasets.layouts.chest import load_jsrt, load_montgomery, load_shenzhen
from certdicom.research.datasets.layouts.dicom_seg import load_dicom
from certdicom.research.datasets.layouts.photographs import load_cvc_clinicdb, load_isic2018
from certdicom.research.datasets.layouts.plain import load_plain

LAYOUTS: dict[str, Callable[[Path], Dataset | None]] = {
    "images/ID.* with masks/STRUCTURE/ID.* or masks/ID.* (and split.csv)": load_plain,
    "JSRT (*.IMG) with SCR (fold1|fold2/masks/ORGAN/*.gif)": load_jsrt,
    "Montgomery (CXR_png/, ManualMask/leftMask, ManualMask/rightMask)": load_montgomery,
    "Shenzhen (CXR_png/, mask/*_mask.png)": load_shenzhen,
    "ISIC 2018 (ISIC2018_Task1-2_*_Input/, ISIC2018_Task1_*_GroundTruth/)": load_isic2018,
    "CVC-ClinicDB (Original/, Ground Truth/)": load_cvc_clinicdb,
    "DICOM images with SEG objects": load_dicom,
}
"""What is recognised, in the order in which it is tried. A loader returns None for a folder that is something else."""


def load_dataset(folder: Path) -> Dataset:
    """The data set in `folder`; images are read when they are asked for.

    UnreadableError when there is no such folder, UsageError when it is none of LAYOUTS or a part of it is missing.
    """
    if not folder.is_dir():
        raise UnreadableError(f"no folder {folder}: give the folder of a data set")
    for load in LAYOUTS.values():
        if (dataset := load(folder)) is not None:
            return dataset
    holds = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) or "nothing"
    raise UsageError(f"{folder} is no data set that is known; it holds {holds}; known are {'; '.join(LAYOUTS)}")
