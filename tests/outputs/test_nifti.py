"""The NIfTI file against two other readers: SimpleITK and nibabel."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from certdicom.certification.certificate import ABSTAIN, PRESENT
from certdicom.errors import UsageError
from certdicom.outputs.nifti import encode_nifti


@pytest.fixture
def decisions():
    """61 × 83, no two sides alike, lungs and heart overlapping."""
    maps = np.zeros((3, 61, 83), np.uint8)
    maps[0, 5:50, 7:40], maps[1, 30:55, 20:80], maps[2, 2:6, 50:60], maps[2, 8:10, 1:5] = PRESENT, PRESENT, PRESENT, ABSTAIN
    return maps


def saved(path, *arguments, **options):
    path.write_bytes(encode_nifti(*arguments, compressed=path.suffix == ".gz", **options))
    return path


def expected(decisions: np.ndarray) -> np.ndarray:
    return np.stack([*(decisions == PRESENT), (decisions == ABSTAIN).any(axis=0)])


@pytest.mark.parametrize("name", ["s.nii.gz", "s.nii"])
def test_simpleitk_reads_back_every_segment_in_the_plane_of_the_seg(make_certificate, make_film, decisions, tmp_path, name):
    film = make_film(ImagerPixelSpacing=["0.2", "0.1"])
    image = sitk.ReadImage(str(saved(tmp_path / name, film, decisions, make_certificate())))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image)[:, 0], expected(decisions))
    assert image.GetSpacing()[:3] == pytest.approx((0.1, 0.2, 1.0))  # columns before rows
    assert image.GetOrigin()[:3] == pytest.approx((0, 0, 0))
    assert np.asarray(image.GetDirection()).reshape(4, 4)[:3, :3] == pytest.approx(np.eye(3))


def test_nibabel_places_it_with_the_signs_of_nifti(make_certificate, make_film, decisions, tmp_path):
    nibabel = pytest.importorskip("nibabel", reason="nibabel is not installed (pip install nibabel)")
    film = make_film(ImagerPixelSpacing=["0.2", "0.1"])
    image = nibabel.load(saved(tmp_path / "s.nii.gz", film, decisions, make_certificate()))
    assert image.affine == pytest.approx(np.diag([-0.1, -0.2, 1, 1]))
    assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")  # columns to the left, rows to the back: the identity plane
    assert image.header.get_xyzt_units()[0] == "mm"
    assert image.get_data_dtype() == np.uint8
    data = np.asarray(image.dataobj)
    assert data.shape == (83, 61, 1, 4)
    np.testing.assert_array_equal(data[:, :, 0].transpose(2, 1, 0), expected(decisions))
    assert image.header["descrip"].item().decode() == "lungs|heart|clavicles|Abstain"


def test_abstention_per_structure_adds_volumes(make_certificate, make_film, decisions, tmp_path):
    image = sitk.ReadImage(str(saved(tmp_path / "s.nii.gz", make_film(), decisions, make_certificate(), abstain="per-structure")))
    assert image.GetSize() == (83, 61, 1, 7)


def test_what_does_not_fit_is_refused(make_certificate, make_film, decisions):
    with pytest.raises(UsageError, match="shape"):
        encode_nifti(make_film(), decisions[:, :5], make_certificate())
