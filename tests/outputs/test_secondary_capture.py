"""The capture of the preview: a colour picture that archives accept, next to its film."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from certdicom.errors import UsageError
from certdicom.outputs.preview import render_preview
from certdicom.outputs.secondary_capture import build_secondary_capture
from tests.saving import save


@pytest.fixture
def build(make_certificate):
    def build(film, picture=None):
        picture = np.random.default_rng(3).integers(0, 256, (50, 71, 3), np.uint8) if picture is None else picture
        return build_secondary_capture(film, picture, make_certificate(), file_sha256="ef" * 32, draw_identity="cd" * 32), picture

    return build


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("DX", {}),
        ("CR", {"PhotometricInterpretation": "MONOCHROME1", "ImagerPixelSpacing": None, "BurnedInAnnotation": "YES"}),
        ("SC", {"PatientOrientation": None, "BodyPartExamined": None}),
        ("DX", {"FrameOfReferenceUID": "2.25.9", "SpecificCharacterSet": "ISO_IR 192", "PatientName": "Wang^XiaoDong=王^小东"}),
        ("DX", {"LossyImageCompression": "01", "LossyImageCompressionRatio": "10", "LossyImageCompressionMethod": "ISO_10918_1"}),
    ],
)
def test_dciodvfy_finds_no_fault(build, make_film, dciodvfy, faults, tmp_path, kind, changes):
    capture, _ = build(make_film(kind, **changes))
    assert faults(dciodvfy(save(capture, tmp_path / "sc.dcm"), recognised="SCImage")) == []


def test_the_picture_comes_back_pixel_exact_in_colour(build, make_film, tmp_path):
    capture, picture = build(make_film())
    written = pydicom.dcmread(save(capture, tmp_path / "sc.dcm"))
    assert written.PhotometricInterpretation == "RGB"
    np.testing.assert_array_equal(written.pixel_array, picture)


def test_it_lies_in_the_films_study_in_a_series_of_its_own_and_names_its_source(build, make_film):
    film = make_film()
    capture, _ = build(film)
    assert (capture.StudyInstanceUID, capture.PatientID, capture.AccessionNumber) == (film.StudyInstanceUID, film.PatientID, "A1")
    assert capture.SeriesInstanceUID != film.SeriesInstanceUID
    assert capture.SourceImageSequence[0].ReferencedSOPInstanceUID == film.SOPInstanceUID
    assert "PixelSpacing" not in capture
    assert "ImagerPixelSpacing" not in capture
    assert "Stability, not correctness. Research use only" in capture.ImageComments
    again, _ = build(film)
    assert again.SOPInstanceUID == capture.SOPInstanceUID


def test_what_the_film_says_of_lossy_compression_and_burned_in_names_is_kept(build, make_film):
    capture, _ = build(make_film(LossyImageCompression="01", LossyImageCompressionRatio="10", BurnedInAnnotation="YES"))
    assert (capture.LossyImageCompression, capture.LossyImageCompressionRatio) == ("01", 10)
    assert capture.BurnedInAnnotation == "YES"
    assert "BurnedInAnnotation" not in build(make_film(BurnedInAnnotation=None))[0]


def test_the_preview_itself_is_of_a_size_that_viewers_show(build, make_film, make_decisions, make_certificate):
    preview = np.asarray(render_preview(np.full((61, 83), 0.5, np.float32), make_decisions("overlapping"), make_certificate()))
    capture, _ = build(make_film(), preview)
    assert max(capture.Rows, capture.Columns) <= 2048


@pytest.mark.parametrize(
    "picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)]
)
def test_what_is_no_colour_picture_is_refused(build, make_film, picture):
    with pytest.raises(UsageError, match="picture must be uint8"):
        build(make_film(), picture)
