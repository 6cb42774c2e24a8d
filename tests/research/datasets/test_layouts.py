"""Every published layout is recognised, read as its authors mean it, and told what it lacks."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from certdicom.errors import UnreadableError, UsageError
from certdicom.research.datasets.loading import load_dataset
from certdicom.research.training.data import load_films
from tests.research.datasets.conftest import HEART, LEFT, RIGHT, SIDE, film, photograph, save

GRID = (32, 32)


def on_grid(sample, structures, channels=1):
    return sample.read().on_grid(GRID, channels=channels, structures=structures)


def test_jsrt_is_read_bright_bone_first_with_the_sides_merged(jsrt: Path) -> None:
    dataset = load_dataset(jsrt)
    assert set(dataset.structures) == {"lungs", "heart", "clavicles"}
    assert [sample.name for sample in dataset.samples] == ["JPCLN001", "JPCLN002"]
    assert dataset.notes == ("1 films without a mask were left out",)
    picture = dataset.samples[0].read()
    assert np.array_equal(picture.stored[0], 4095 - film(1))
    assert np.array_equal(picture.masks["lungs"], LEFT | RIGHT)
    assert np.array_equal(picture.masks["heart"], HEART)
    view = on_grid(dataset.samples[0], ("lungs", "heart", "liver"))
    assert view.known.tolist() == [True, True, False]
    assert view.u[0][view.masks[0]].mean() < 0.3, "lungs are dark on display"
    assert view.u[0][~view.masks[0]].mean() > 0.7


def test_a_film_on_the_grid_says_what_a_distance_is_worth(jsrt: Path) -> None:
    """A 2 × 2 mean halves distances, and the window turns stored values into a range of 1."""
    picture = load_dataset(jsrt).samples[0].read()
    window = picture.presentation.fixed.window
    assert on_grid(load_dataset(jsrt).samples[0], ("lungs",)).native_radius(1.0) == pytest.approx(2 * (window.hi - window.lo))
    repeated = picture.on_grid(GRID, channels=3, structures=("lungs",))
    assert repeated.u.shape == (3, *GRID)
    assert repeated.native_radius(1.0) == pytest.approx(2 * (window.hi - window.lo) / 3**0.5), (
        "the same change in three channels is √3 as far"
    )


@pytest.mark.parametrize(("content", "message"), [(b"\0" * 7, "no square film"), (b"\xff\x0f" * SIDE**2, "big-endian")])
def test_a_damaged_film_is_told_by_its_name(jsrt: Path, content: bytes, message: str) -> None:
    (jsrt / "All247images" / "JPCLN001.IMG").write_bytes(content)
    with pytest.raises(UnreadableError, match=rf"JPCLN001.*{message}"):
        load_dataset(jsrt).samples[0].read()


def test_montgomery_joins_left_and_right(montgomery: Path) -> None:
    dataset = load_dataset(montgomery)
    assert dataset.structures == ("lungs",)
    assert len(dataset.samples) == 2
    assert np.array_equal(dataset.samples[1].read().masks["lungs"], LEFT | RIGHT)


def test_shenzhen_reads_gray_from_rgb_and_leaves_out_films_without_masks(shenzhen: Path) -> None:
    dataset = load_dataset(shenzhen)
    assert dataset.channels == 1
    assert [sample.name for sample in dataset.samples] == ["CHNCXR_0001_0"]
    picture = dataset.samples[0].read()
    assert picture.stored.shape == (1, SIDE, SIDE)
    assert np.array_equal(picture.stored[0], film(1) // 16)


def test_isic_keeps_the_published_parts_and_its_colours(isic2018: Path) -> None:
    dataset = load_dataset(isic2018)
    assert dataset.structures == ("lesion",)
    assert dataset.parts == {"train": 2, "val": 1}
    view = dataset.samples[0].read().on_grid((24, 32), channels=3, structures=("lesion",))
    assert view.u.shape == (3, 24, 32)
    assert view.masks.mean() == pytest.approx(30 * 32 / (48 * 64))
    with pytest.raises(UsageError, match="3 channels"):
        dataset.samples[0].read().on_grid((24, 32), channels=1, structures=("lesion",))


def test_clinicdb_keeps_neighbouring_frames_together(cvc_clinicdb: Path) -> None:
    dataset = load_dataset(cvc_clinicdb)
    assert [sample.name for sample in dataset.samples[:3]] == ["1", "2", "3"], "frames in the order of the video"
    groups = {sample.name: sample.group for sample in dataset.samples}
    assert groups["1"] == groups["25"] != groups["26"]
    assert np.array_equal(dataset.samples[4].read().stored, np.moveaxis(photograph(5), -1, 0))
    (cvc_clinicdb / "metadata.csv").write_text("frame_id,sequence_id\n" + "".join(f"{n},{1 if n < 40 else 2}\n" for n in range(1, 61)))
    groups = {sample.name: sample.group for sample in load_dataset(cvc_clinicdb).samples}
    assert groups["1"] == groups["39"] != groups["40"]


def test_plain_folders_have_masks_by_structure_or_one_unnamed(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save((film(1) // 16).astype(np.uint8), tmp_path / "images" / f"{name}.png")
        save(LEFT, tmp_path / "masks" / "left_lung" / f"{name}.png")
        save(RIGHT, tmp_path / "masks" / "right_lung" / f"{name}.png")
    (tmp_path / "split.csv").write_text("id,split,patient\na,train,p1\nb,val,p1\n")
    dataset = load_dataset(tmp_path)
    assert dataset.structures == ("lungs",)
    assert dataset.parts == {"train": 1, "val": 1}
    assert {sample.group for sample in dataset.samples} == {"p1"}
    assert np.array_equal(dataset.samples[0].read().masks["lungs"], LEFT | RIGHT)


def test_sixteen_bit_films_keep_their_depth(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    Image.fromarray((film(1) * 16).astype(np.uint16)).save(tmp_path / "images" / "a.png")
    save(LEFT, tmp_path / "masks" / "a.png")
    dataset = load_dataset(tmp_path)
    assert dataset.structures == ("foreground",)
    assert np.array_equal(dataset.samples[0].read().stored[0], film(1) * 16)


@pytest.mark.parametrize(
    ("layout", "removed", "message"),
    [
        ("jsrt", "scratch", r"3 JSRT films.*fold1/masks"),
        ("montgomery", "ManualMask/rightMask", r"no ManualMask/rightMask"),
        ("shenzhen", "mask", r"CHNCXR_0001_0_mask.png"),
        ("isic2018", "ISIC2018_Task1_*_GroundTruth", r"unpack ISIC2018_Task1_\*_GroundTruth"),
        ("cvc_clinicdb", "Ground Truth", r"no 'Ground Truth'"),
    ],
)
def test_what_is_missing_is_said(layout: str, removed: str, message: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(layout)
    for place in folder.glob(removed):
        shutil.rmtree(place)
    with pytest.raises(UsageError, match=message):
        load_dataset(folder)


def test_a_folder_of_something_else_is_told_what_would_do(tmp_path: Path) -> None:
    (tmp_path / "holiday.txt").write_text("sea")
    with pytest.raises(UsageError, match=r"holds holiday.txt.*Montgomery.*ISIC"):
        load_dataset(tmp_path)
    with pytest.raises(UnreadableError, match="no folder"):
        load_dataset(tmp_path / "nowhere")


def test_images_without_masks_are_for_denoisers_alone(tmp_path: Path) -> None:
    for number in range(3):
        save((film(number) >> 4).astype(np.uint8), tmp_path / "images" / f"{number}.png")
    dataset = load_dataset(tmp_path)
    assert (dataset.layout, dataset.structures, len(dataset.samples)) == ("images/ alone", (), 3)
    assert load_films(tmp_path, "all", grid=32, structures=()).images.shape == (3, 1, 32, 32)
    with pytest.raises(UsageError, match="images without masks: a denoiser can be trained on them"):
        load_films(tmp_path, "all", grid=32)


@pytest.mark.parametrize("ending", ["jpg", "webp"])
def test_a_gray_film_that_was_stored_as_lossy_colour_is_gray(tmp_path: Path, ending: str) -> None:
    (tmp_path / "images").mkdir()
    tinted = np.stack([(film(1) >> 4).astype(np.int16) + shift for shift in (0, 3, -2)], axis=-1).clip(0, 255).astype(np.uint8)
    Image.fromarray(tinted).save(tmp_path / "images" / f"a.{ending}", quality=70)
    assert load_dataset(tmp_path).channels == 1
    Image.fromarray(photograph(1)).save(tmp_path / "images" / f"a.{ending}", quality=70)
    assert load_dataset(tmp_path).channels == 3
