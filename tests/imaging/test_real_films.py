"""Real films and other images of pydicom-data."""

from __future__ import annotations

import io

import imagecodecs
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.encaps import encapsulate, get_frame
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from certdicom.errors import ImageRefusedError
from certdicom.imaging.grid import to_grid
from certdicom.imaging.plane import NO_SPACING
from certdicom.imaging.reading import read_radiograph


def test_the_same_chest_film_uncompressed_and_lossless_is_the_same(real):
    plain, packed = read_radiograph(real("RG1_UNCR.dcm")), read_radiograph(real("RG1_J2KR.dcm"))
    assert plain.rows, plain.columns == (1955, 1841)
    np.testing.assert_array_equal(plain.stored_values, packed.stored_values)
    np.testing.assert_array_equal(plain.stored_values, dcmread(real("RG1_UNCR.dcm")).pixel_array)
    assert plain.file_sha256 != packed.file_sha256
    assert plain.notes[:2] == (NO_SPACING, "PixelSpacing is not two numbers above 0, and was left out")


def test_a_chest_film_is_shown_with_dark_lungs(real):
    u = to_grid(read_radiograph(real("RG1_UNCR.dcm")), 256).u[0]
    lungs = [u[60:120, 60:80].mean(), u[60:120, 170:190].mean()]
    spine = u[60:200, 122:134].mean()
    assert max(lungs) < 0.7
    assert spine > 0.85


def test_a_lossy_chest_film_is_read_like_the_original(real):
    original, lossy = (to_grid(read_radiograph(real(name)), 256) for name in ("RG1_UNCR.dcm", "RG1_J2KI.dcm"))
    assert np.abs(original.u - lossy.u).max() < 0.05
    assert original.native_radius(0.1686) == pytest.approx(lossy.native_radius(0.1686), rel=0.01)


@pytest.mark.parametrize("name", ["RG3_UNCR.dcm", "RG3_UNCI.dcm", "RG3_J2KR.dcm", "RG3_J2KI.dcm"])
def test_a_leg_is_refused_by_its_body_part(real, name):
    with pytest.raises(ImageRefusedError, match="BodyPartExamined EXTREMITY is not the chest"):
        read_radiograph(real(name))
    assert read_radiograph(real(name), accept_any=True).rows == 1760


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("CT_small.dcm", "Modality CT"),
        ("693_J2KR.dcm", "Modality CT"),
        ("MR_small.dcm", "Modality MR"),
        ("emri_small.dcm", "Modality MR"),
        ("US1_UNCR.dcm", "Modality US"),
        ("OBXXXX1A_2frame.dcm", "Modality US"),
        ("SC_rgb.dcm", "not gray but a colour photograph"),
        ("liver.dcm", "Modality SEG"),
        ("rtplan.dcm", "holds no picture: it is RT Plan Storage"),
        ("reportsi.dcm", "holds no picture: it is Basic Text SR"),
        ("JPEG2000.dcm", "Modality NM"),
        ("DICOMDIR", "a DICOMDIR"),
    ],
)
def test_other_objects_are_refused(real, name, reason):
    with pytest.raises(ImageRefusedError, match=reason):
        read_radiograph(real(name))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("emri_small.dcm", "10 frames"),
        ("US1_UNCR.dcm", "not gray"),
        ("SC_rgb.dcm", "not gray"),
        ("OBXXXX1A.dcm", "not gray"),
        ("rtplan.dcm", "holds no picture"),
        ("JPEG2000.dcm", "too elongated"),
        ("MR_truncated.dcm", "truncated"),
    ],
)
def test_accept_any_does_not_waive_technical_reasons(real, name, reason):
    with pytest.raises(ImageRefusedError, match=reason):
        read_radiograph(real(name), accept_any=True)


@pytest.mark.parametrize(
    "name",
    [
        "CT_small.dcm",
        "MR_small.dcm",
        "MR_small_RLE.dcm",
        "MR_small_bigendian.dcm",
        "MR_small_implicit.dcm",
        "MR_small_jp2klossless.dcm",
        "MR_small_jpeg_ls_lossless.dcm",
        "image_dfl.dcm",
        "693_J2KR.dcm",
        "explicit_VR-UN.dcm",
        "J2K_pixelrep_mismatch.dcm",
    ],
)
def test_stored_values_are_those_that_pydicom_decodes(real, name):
    path = real(name)
    np.testing.assert_array_equal(read_radiograph(path, accept_any=True).stored_values, dcmread(path).pixel_array)


def test_lossless_jpeg_is_what_another_decoder_makes_of_it(real):
    """liblj92, an independent implementation of process 14, gives the same pixels as libjpeg-turbo."""
    path = real("JPGLosslessP14SV1_1s_1f_8b.dcm")
    expected = imagecodecs.ljpeg_decode(get_frame(dcmread(path).PixelData, 0, number_of_frames=1))
    np.testing.assert_array_equal(read_radiograph(path, accept_any=True).stored_values, expected)


def test_a_jpeg_stream_without_its_end_is_refused(real):
    """libjpeg-turbo fills the missing part of a picture with gray; such a film must not pass."""
    dataset = dcmread(real("JPGLosslessP14SV1_1s_1f_8b.dcm"))
    frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    for length in (len(frame) // 3, len(frame) // 2 * 2 - 10):
        dataset.PixelData = encapsulate([frame[:length]])
        stream = io.BytesIO()
        dataset.save_as(stream)
        with pytest.raises(ImageRefusedError, match="has no end marker: the file is truncated"):
            read_radiograph(stream.getvalue(), accept_any=True)


def test_a_real_modality_lut_is_applied(real):
    path = real("mlut_18.dcm")
    film = read_radiograph(path, accept_any=True)
    dataset = dcmread(path)
    levels = apply_modality_lut(dataset.pixel_array, dataset)
    assert film.rendering.levels.table is not None
    shown = film.rendering.display(film.stored_values)
    order = np.argsort(levels, axis=None)
    assert np.all(np.diff(shown.ravel()[order]) >= 0)
    np.testing.assert_array_equal((shown == 0) | (shown == 1) | (shown > 0), True)


def test_a_real_voi_lut_is_applied(real):
    path = real("vlut_04.dcm")
    film = read_radiograph(path, accept_any=True)
    dataset = dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    bits = int(dataset.VOILUTSequence[0].LUTDescriptor[2])
    np.testing.assert_allclose(film.rendering.display(film.stored_values), expected / ((1 << bits) - 1), atol=1e-6)
