"""Small data sets in the layouts in which their authors publish them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SIDE = 64


def box(rows: slice, columns: slice, side: int = SIDE) -> np.ndarray:
    """A mask that is on in one rectangle."""
    mask = np.zeros((side, side), bool)
    mask[rows, columns] = True
    return mask


LEFT, RIGHT, HEART = box(slice(8, 56), slice(36, 60)), box(slice(8, 56), slice(4, 28)), box(slice(30, 50), slice(24, 40))


def save(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def film(seed: int, side: int = SIDE) -> np.ndarray:
    """Levels 0 … 4095, int: bright with dark lungs."""
    noise = np.random.default_rng(seed).normal(0, 20, (side, side))
    return np.clip(3000 - 2000.0 * (LEFT | RIGHT) + noise, 0, 4095).astype(int)


def photograph(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (48, 64, 3)).astype(np.uint8)


@pytest.fixture
def jsrt(tmp_path: Path) -> Path:
    """Three films; the third has no mask. Optical density is stored: dark lungs have the larger values."""
    root = tmp_path / "jsrt"
    organs = {"left lung": LEFT, "right lung": RIGHT, "heart": HEART, "left clavicle": HEART, "right clavicle": LEFT}
    for number, fold in ((1, "fold1"), (2, "fold2"), (3, None)):
        path = root / "All247images" / f"JPCLN00{number}.IMG"
        path.parent.mkdir(parents=True, exist_ok=True)
        (4095 - film(number)).astype(">u2").tofile(path)
        for organ, mask in organs.items() if fold else ():
            save(mask, root / "scratch" / fold / "masks" / organ / f"JPCLN00{number}.gif")
    return root


@pytest.fixture
def montgomery(tmp_path: Path) -> Path:
    root = tmp_path / "MontgomerySet"
    for name in ("MCUCXR_0001_0", "MCUCXR_0104_1"):
        save((film(1) // 16).astype(np.uint8), root / "CXR_png" / f"{name}.png")
        save(LEFT, root / "ManualMask" / "leftMask" / f"{name}.png")
        save(RIGHT, root / "ManualMask" / "rightMask" / f"{name}.png")
    return root


@pytest.fixture
def shenzhen(tmp_path: Path) -> Path:
    """Films stored as RGB, as some of the published ones are; the second has no mask."""
    root = tmp_path / "ChinaSet_AllFiles"
    for name in ("CHNCXR_0001_0", "CHNCXR_0002_0"):
        save(np.repeat((film(1) // 16).astype(np.uint8)[..., None], 3, axis=2), root / "CXR_png" / f"{name}.png")
    save(LEFT | RIGHT, root / "mask" / "CHNCXR_0001_0_mask.png")
    return root


@pytest.fixture
def isic2018(tmp_path: Path) -> Path:
    root = tmp_path / "isic"
    for stage, numbers in (("Training", (0, 1)), ("Validation", (3,))):
        for number in numbers:
            save(photograph(number), root / f"ISIC2018_Task1-2_{stage}_Input" / f"ISIC_000000{number}.jpg")
            mask = np.zeros((48, 64), np.uint8)
            mask[10:40, 16:48] = 255
            save(mask, root / f"ISIC2018_Task1_{stage}_GroundTruth" / f"ISIC_000000{number}_segmentation.png")
    (root / "ISIC2018_Task1-2_Training_Input" / "ATTRIBUTION.txt").write_text("CC-0")
    return root


@pytest.fixture
def cvc_clinicdb(tmp_path: Path) -> Path:
    root = tmp_path / "CVC-ClinicDB"
    for number in range(1, 61):
        save(photograph(number), root / "Original" / f"{number}.tif")
        mask = np.zeros((48, 64), np.uint8)
        mask[10:20, 16:48] = 255
        save(mask, root / "Ground Truth" / f"{number}.tif")
    return root
