"""The .seg.nrrd file gives Slicer every segment, overlapping ones included, with its name, colour and code."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.errors import UsageError
from certdicom.outputs.nrrd import assign_layers, encode_seg_nrrd


@pytest.fixture
def decisions():
    maps = np.zeros((3, 61, 83), np.uint8)
    maps[0, 5:50, 7:61] = PRESENT
    maps[1, 20:55, 30:83] = PRESENT
    maps[2, 56:60, :] = PRESENT
    maps[0, 50:53, 7:61] = ABSTAIN
    return maps


def saved(path, *arguments, **options):
    path.write_bytes(encode_seg_nrrd(*arguments, **options))
    return path


def read(path):
    image = sitk.ReadImage(str(path))
    pixels = sitk.GetArrayFromImage(image)[0]
    layers = pixels if pixels.ndim == 3 else pixels[..., np.newaxis]
    return image, np.moveaxis(layers, -1, 0)


def segment_masks(image, layers):
    masks = {}
    number = 0
    while image.HasMetaDataKey(f"Segment{number}_ID"):
        layer, value = (int(image.GetMetaData(f"Segment{number}_{key}")) for key in ("Layer", "LabelValue"))
        masks[image.GetMetaData(f"Segment{number}_Name")] = layers[layer] == value
        number += 1
    return masks


def test_every_segment_comes_back_pixel_exact(make_film, make_certificate, decisions, tmp_path):
    image, layers = read(saved(tmp_path / "film.seg.nrrd", make_film(), decisions, make_certificate()))
    masks = segment_masks(image, layers)
    assert list(masks) == ["lungs", "heart", "clavicles", "Abstain"]
    for number, name in enumerate(("lungs", "heart", "clavicles")):
        np.testing.assert_array_equal(masks[name], decisions[number] == PRESENT)
    np.testing.assert_array_equal(masks["Abstain"], (decisions == ABSTAIN).any(axis=0))


def test_the_plane_is_that_of_the_seg(make_film, make_certificate, decisions, tmp_path):
    film = make_film(ImagerPixelSpacing=["0.2", "0.1"])
    image, _ = read(saved(tmp_path / "film.seg.nrrd", film, decisions, make_certificate()))
    assert image.GetSize() == (83, 61, 1)
    assert image.GetSpacing() == pytest.approx((0.1, 0.2, 1.0))
    assert image.GetOrigin() == (0.0, 0.0, 0.0)
    assert image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def test_metadata_follow_slicers_convention(make_film, make_certificate, decisions, tmp_path):
    path = saved(tmp_path / "film.seg.nrrd", make_film(), decisions, make_certificate())
    image, _ = read(path)
    keys = {key: image.GetMetaData(key) for key in image.GetMetaDataKeys()}
    assert keys["Segmentation_SourceRepresentation"] == keys["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert keys["Segmentation_ContainedRepresentationNames"] == "Binary labelmap|"
    assert keys["Segment0_Extent"] == "7 60 5 49 0 0"
    assert keys["Segment1_Color"] == "0.835294 0.368627 0.000000"
    assert "~SCT^91723000^Anatomical Structure~SCT^39607008^Lung~^^~" in keys["Segment0_Tags"]
    assert "~SCT^309825002^Spatial and Relational Concept~SCT^82334004^Indeterminate~^^~" in keys["Segment3_Tags"]
    assert "\nkinds: list domain domain domain\n" in path.read_bytes().partition(b"\n\n")[0].decode()


def test_an_empty_segment_is_there_with_an_empty_extent(make_film, make_certificate, tmp_path):
    image, layers = read(saved(tmp_path / "a.seg.nrrd", make_film(), np.zeros((3, 61, 83), np.uint8), make_certificate()))
    assert not layers.any()
    assert image.GetMetaData("Segment3_Name") == "Abstain"
    assert image.GetMetaData("Segment3_Extent") == "0 -1 0 -1 0 -1"


def test_per_structure_abstention_has_its_segments(make_film, make_certificate, decisions, tmp_path):
    path = saved(tmp_path / "a.seg.nrrd", make_film(), decisions, make_certificate(), abstain="per-structure")
    masks = segment_masks(*read(path))
    np.testing.assert_array_equal(masks["Abstain: lungs"], decisions[0] == ABSTAIN)
    np.testing.assert_array_equal(masks["Abstain"], masks["Abstain: lungs"])


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 8), st.floats(0, 0.6))
def test_layers_never_hold_two_segments_at_one_pixel(seed, count, density):
    masks = list(np.random.default_rng(seed).random((count, 6, 5)) < density)
    places = assign_layers(masks)
    assert len(set(places)) == count
    for first in range(count):
        for second in range(first):
            if places[first][0] == places[second][0]:
                assert not (masks[first] & masks[second]).any()


def test_what_does_not_overlap_shares_one_layer():
    masks = list(np.eye(4, dtype=bool)[:, np.newaxis])
    assert assign_layers(masks) == [(0, 1), (0, 2), (0, 3), (0, 4)]


def test_decisions_of_another_size_are_refused(make_film, make_certificate, tmp_path):
    with pytest.raises(UsageError, match="shape"):
        saved(tmp_path / "a.seg.nrrd", make_film(), np.zeros((3, 5, 5), np.uint8), make_certificate())
