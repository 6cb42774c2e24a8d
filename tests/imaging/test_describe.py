"""`describe` tells what a file is, accepted or not, and nothing about the patient."""

from __future__ import annotations

import dataclasses

import pytest

from certdicom.certification.certificate import Window
from certdicom.errors import UsageError
from certdicom.imaging.describe import FilmDescription, describe
from certdicom.imaging.synthetic import compress, film_bytes


def test_an_accepted_film(film):
    found = describe(film_bytes(compress(film(), "jpeg-2000")))
    assert found == FilmDescription(
        kind="radiograph",
        rows=120,
        columns=96,
        bits=(16, 12),
        photometric_interpretation="MONOCHROME2",
        transfer_syntax="JPEG 2000 Image Compression (Lossless Only)",
        modality="DX",
        body_part="CHEST",
        view="PA",
        spacing=(0.14, 0.14, "ImagerPixelSpacing"),
        window=Window(205.0, 3890.0, "WindowCenter/WindowWidth (LINEAR)"),
        accepted=True,
    )


def test_a_refused_film_is_described_with_its_reason(film):
    dataset = film()
    dataset.BodyPartExamined = "HAND"
    found = describe(film_bytes(dataset))
    assert not found.accepted
    assert found.reason == "BodyPartExamined HAND is not the chest; use --accept-any to read it anyway"
    assert (found.rows, found.body_part, found.window) == (120, "HAND", None)
    assert describe(film_bytes(dataset), accept_any=True).accepted


def test_what_cannot_be_parsed_has_a_reason_alone():
    assert describe(b"no film") == FilmDescription(reason="this is not a DICOM file: there is no DICM prefix and no data set at its start")


def test_useless_spacing_is_no_spacing(film):
    dataset = film(modality="CR")
    dataset.ImagerPixelSpacing, dataset.PixelSpacing = [0, 0], [0, 0]
    assert describe(film_bytes(dataset)).spacing is None
    dataset.PixelSpacing = [0.2, 0.3]
    assert describe(film_bytes(dataset)).spacing == (0.2, 0.3, "PixelSpacing")


def test_nothing_about_the_patient_is_in_it(film):
    dataset = film()
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Secret^Name", "ID-4711", "19700203"
    dataset.InstitutionName, dataset.StudyDate, dataset.PatientComments = "Clinic", "20240506", "Comment"
    text = str(dataclasses.asdict(describe(film_bytes(dataset))))
    for private in ("Secret", "4711", "19700203", "Clinic", "20240506", "Comment", str(dataset.SOPInstanceUID)):
        assert private not in text


def test_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="cannot read"):
        describe(tmp_path / "missing.dcm")
