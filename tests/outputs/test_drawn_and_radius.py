"""The drawn SEG and the picture of the radius: valid for films of all kinds, and what they draw is what was decided."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pydicom
import pytest

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.imaging.reading import read_image, read_radiograph
from certdicom.outputs.drawn_seg import band, hatch
from certdicom.outputs.radii import largest_radius
from certdicom.outputs.radius_picture import bands_of
from certdicom.outputs.result import Result

FILMS = {
    "as it is": {},
    "MONOCHROME1": {"kind": "CR", "PhotometricInterpretation": "MONOCHROME1"},
    "own plane": {
        "FrameOfReferenceUID": "2.25.9",
        "ImageOrientationPatient": [1, 0, 0, 0, 0, -1],
        "ImagePositionPatient": [0, 0, 0],
        "PixelSpacing": ["0.2", "0.2"],
    },
    "over 2048": {"rows": 2100, "columns": 1800},
    "without spacing": {"kind": "CR", "ImagerPixelSpacing": None},
    "zero spacing": {"ImagerPixelSpacing": ["0", "0"]},
}


@pytest.fixture
def certificate(make_certificate):
    decisions = np.zeros((3, 16, 16), np.uint8)
    decisions[0, 2:12, 2:14], decisions[1, 6:10, 5:11], decisions[:, 12] = PRESENT, PRESENT, ABSTAIN
    return make_certificate(decisions=decisions)


@pytest.fixture
def make_result(make_film, certificate, tmp_path):
    def make(abstain="union", **changes):
        path = tmp_path / "film.dcm"
        make_film(**{"rows": 128, "columns": 112, **changes}).save_as(path, enforce_file_format=True)
        return Result(read_radiograph(path, accept_any=True), certificate, abstain=abstain)

    return make


@pytest.mark.parametrize("name", FILMS)
def test_dciodvfy_finds_no_fault(make_result, dciodvfy, faults, tmp_path, name):
    result = make_result(abstain="per-structure" if name == "as it is" else "union", **FILMS[name])
    for kind, recognised in (("drawn_seg", "Segmentation"), ("radius_sc", "SCImage")):
        path = result.save(tmp_path / f"{kind}.dcm", kind=kind)
        assert faults(dciodvfy(path, recognised=recognised)) == []


def test_a_photographs_objects_are_valid_and_its_picture_is_gray_but_for_the_radius(
    make_photograph, certificate, dciodvfy, faults, tmp_path
):
    stream = BytesIO()
    make_photograph("XC").save_as(stream, enforce_file_format=True)
    result = Result(read_image(stream.getvalue(), accept_any=True), certificate)
    for kind, recognised in (("drawn_seg", "Segmentation"), ("radius_sc", "SCImage")):
        assert faults(dciodvfy(result.save(tmp_path / f"{kind}.dcm", kind=kind), recognised=recognised)) == []


@pytest.mark.parametrize("abstain", ["union", "per-structure"])
def test_the_drawing_has_the_segments_of_the_segmentation_within_them_and_says_what_it_is(make_result, abstain):
    result = make_result(abstain)
    certified, drawn = (pydicom.dcmread(BytesIO(result.encode(kind))) for kind in ("seg", "drawn_seg"))
    assert "not for measuring" in drawn.SeriesDescription
    assert drawn.SeriesInstanceUID != certified.SeriesInstanceUID
    assert drawn.FrameOfReferenceUID == certified.FrameOfReferenceUID
    for mine, its in zip(drawn.SegmentSequence, certified.SegmentSequence, strict=True):
        assert mine.SegmentLabel == f"{its.SegmentLabel} (drawing, not for measuring)"
        assert mine.SegmentedPropertyTypeCodeSequence == its.SegmentedPropertyTypeCodeSequence
    inside, whole = drawn.pixel_array.astype(bool), certified.pixel_array.astype(bool)
    assert not (inside & ~whole).any()
    assert all(0 < few.sum() < many.sum() for few, many in zip(inside, whole, strict=True) if many.any())


def test_bands_and_strokes_are_six_pixels_wide_and_grow_with_the_film():
    mask = np.zeros((400, 300), bool)
    mask[100:300, 50:250] = True
    assert band(mask)[200].sum() == 12
    assert band(np.ones((60, 60), bool)).sum() == 0, "the film's edge is no border"
    assert hatch(np.ones((24, 24), bool)).mean() == 0.25
    large = np.zeros((2048, 100), bool)
    large[500:1500] = True
    assert band(large)[:, 50].sum() == 24


def test_bands_of_radii_cover_what_is_certified_once(certificate):
    top = largest_radius(certificate)
    radii = np.linspace(0, top, 100, dtype=np.float32).reshape(10, 10)
    shown = np.ones((10, 10), bool)
    shown[3] = False
    masks = [one.mask for one in bands_of(radii, shown, top)]
    np.testing.assert_array_equal(np.sum(masks, axis=0), shown & (radii > 0))
    for one in bands_of(radii, shown, top):
        assert radii[one.mask].min() >= one.lower * (1 - 1e-6)


def test_the_picture_is_coloured_where_certified(make_result):
    picture = pydicom.dcmread(BytesIO(make_result().encode("radius_sc"))).pixel_array
    colour = np.ptp(picture[:, : 1400 * 112 // 128].astype(int), axis=2) > 8
    assert colour.mean() > 0.5
