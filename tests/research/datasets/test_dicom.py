"""Folders of DICOM films with SEG objects, written by highdicom."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from highdicom.seg import Segmentation, SegmentDescription
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from certdicom.errors import UsageError
from certdicom.imaging.synthetic import synthetic_film, write_film
from certdicom.research.datasets.loading import load_dataset


def segmentation(film, masks: dict[str, np.ndarray]) -> Segmentation:
    """A reference SEG with one segment a label."""
    descriptions = [
        SegmentDescription(number, label, codes.SCT.AnatomicalStructure, codes.SCT.AnatomicalStructure, "MANUAL")
        for number, label in enumerate(masks, start=1)
    ]
    return Segmentation(
        source_images=[film],
        pixel_array=np.stack(list(masks.values()), axis=-1)[None],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=descriptions,
        series_instance_uid=generate_uid(),
        series_number=1,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three films of two patients; the third film has no SEG."""
    for number, patient in enumerate(("anna", "anna", "bert")):
        film, _ = synthetic_film(rows=96, columns=80, seed=number)
        film.PatientID = patient
        write_film(film, tmp_path / f"film{number}.dcm")
        left = np.zeros((96, 80), bool)
        left[20:80, 45:70] = True
        if number < 2:
            masks = {"Left lung": left, "Right Lung": left[:, ::-1], "Heart": left & left[::-1], "Abstain": ~left}
            segmentation(film, masks).save_as(tmp_path / f"seg{number}.dcm")
    (tmp_path / "notes.txt").write_text("no DICOM")
    return tmp_path


def test_segments_become_the_masks_of_the_film_that_they_refer_to(folder: Path) -> None:
    dataset = load_dataset(folder)
    assert dataset.structures == ("lungs", "heart"), "the abstain segment is no structure"
    assert [sample.name for sample in dataset.samples] == ["film0.dcm", "film1.dcm"]
    assert dataset.notes == ("1 images without a SEG were left out",)
    assert len({sample.group for sample in dataset.samples}) == 1, "one patient"
    assert "anna" not in dataset.samples[0].group
    picture = dataset.samples[0].read()
    expected = np.zeros((96, 80), bool)
    expected[20:80, 45:70] = True
    assert np.array_equal(picture.masks["lungs"], expected | expected[:, ::-1])
    assert picture.on_grid((32, 32), channels=1, structures=("heart",)).u.shape == (1, 32, 32)


def test_films_without_segmentations_are_told(folder: Path) -> None:
    for path in folder.glob("seg*.dcm"):
        path.unlink()
    with pytest.raises(UsageError, match="not DICOM SEG objects"):
        load_dataset(folder)
