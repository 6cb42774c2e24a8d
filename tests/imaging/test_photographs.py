"""Colour photographs: every pixel as independent decoders have it, and what is no photograph refused."""

from __future__ import annotations

import shutil
import subprocess
from io import BytesIO

import numpy as np
import pytest
from imagecodecs import jpeg8_encode
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import convert_color_space
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from certdicom import ImageRefusedError, Photograph, Radiograph, read_image, read_radiograph
from certdicom.imaging.describe import describe
from certdicom.imaging.grid import to_grid
from certdicom.imaging.plane import NO_SPACING
from certdicom.imaging.resampling import box_matrix, operator_norm
from certdicom.imaging.synthetic import film_bytes


def picture(dataset) -> np.ndarray:
    """(rows, columns, 3) of an uncompressed RGB data set."""
    return np.frombuffer(dataset.PixelData, np.uint8)[: dataset.Rows * dataset.Columns * 3].reshape(dataset.Rows, dataset.Columns, 3)


def seen(source, **options) -> np.ndarray:
    """(rows, columns, 3) of what is read."""
    image = read_image(source if isinstance(source, str | bytes) else film_bytes(source), **options)
    assert isinstance(image, Photograph)
    return np.moveaxis(image.stored_values, 0, -1)


@pytest.fixture
def dcmtk(tmp_path):
    """The pixels of a file by DCMTK's dcmj2pnm, (rows, columns, 3) uint8."""
    program = shutil.which("dcmj2pnm")
    if program is None:
        pytest.skip("dcmj2pnm is not installed (apt-get install dcmtk)")

    def decode(path) -> np.ndarray:
        target = tmp_path / "decoded.ppm"
        subprocess.run([program, str(path), str(target)], check=True, capture_output=True, timeout=60)
        return np.asarray(Image.open(target).convert("RGB"))

    return decode


def as_jpeg(dataset, *, photometric: str, subsampling: str = "444", marked: bool = True, syntax=JPEGBaseline8Bit):
    """The data set with its pixels as JPEG: YCbCr for YBR, untransformed for RGB; `marked`: with what JPEG itself says of colours."""
    pixels = picture(dataset)
    if photometric == "RGB":
        coded = jpeg8_encode(pixels, level=90, colorspace="RGB", outcolorspace="RGB", subsampling="444", lossless=syntax == JPEGLosslessSV1)
    else:
        coded = jpeg8_encode(pixels, level=90, colorspace="RGB", outcolorspace="YCBCR", subsampling=subsampling)
    dataset.PixelData = encapsulate([coded])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    dataset.PhotometricInterpretation = photometric
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.LossyImageCompression = "01"
    return dataset


@pytest.mark.parametrize("kind", ["XC", "ES", "SC"])
def test_an_uncompressed_photograph_is_read_pixel_by_pixel(make_photograph, kind):
    dataset = make_photograph(kind)
    image = read_image(film_bytes(dataset))
    assert isinstance(image, Photograph)
    assert (image.channels, image.rows, image.columns, image.medium, image.native_unit) == (3, 96, 128, "photograph", "RGB values")
    np.testing.assert_array_equal(np.moveaxis(image.stored_values, 0, -1), picture(dataset))
    np.testing.assert_allclose(image.display(), picture(dataset) / 255, atol=1e-6)
    captured = ["a Secondary Capture that says Modality OT: it may have been processed or burned in"] * (kind == "SC")
    assert image.notes == (*captured, NO_SPACING)


def test_planes_are_the_same_picture(make_photograph):
    dataset = make_photograph()
    expected = picture(dataset).copy()
    dataset.PixelData, dataset.PlanarConfiguration = np.moveaxis(expected, -1, 0).tobytes(), 1
    np.testing.assert_array_equal(seen(dataset), expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
def test_lossless_compression_changes_no_pixel(make_photograph, syntax):
    dataset = make_photograph()
    expected = picture(dataset).copy()
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(seen(dataset), expected)


def test_jpeg_2000_may_lose_little(make_photograph):
    dataset = make_photograph()
    expected = picture(dataset).astype(int)
    dataset.compress(JPEG2000, generate_instance_uid=False, j2k_cr=[4])
    assert np.abs(seen(dataset) - expected).mean() < 3


def test_lossless_jpeg_is_read(make_photograph):
    dataset = make_photograph()
    expected = picture(dataset).copy()
    np.testing.assert_array_equal(seen(as_jpeg(dataset, photometric="RGB", syntax=JPEGLosslessSV1)), expected)


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_any_order_of_bytes_gives_the_same_picture(make_photograph, syntax):
    dataset = make_photograph()
    expected = picture(dataset).copy()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    np.testing.assert_array_equal(seen(dataset), expected)


@pytest.mark.parametrize(
    ("photometric", "subsampling"), [("YBR_FULL", "444"), ("YBR_FULL_422", "422"), ("YBR_FULL_422", "420"), ("RGB", "444")]
)
def test_jpeg_baseline_is_read_as_dcmtk_reads_it(make_photograph, dcmtk, tmp_path, photometric, subsampling):
    dataset = as_jpeg(make_photograph(), photometric=photometric, subsampling=subsampling)
    path = tmp_path / "photograph.dcm"
    path.write_bytes(film_bytes(dataset))
    np.testing.assert_array_equal(seen(str(path)), dcmtk(path))


REAL = [
    "SC_rgb.dcm",
    "SC_rgb_expb.dcm",
    "SC_rgb_rle.dcm",
    "SC_rgb_jpeg_gdcm.dcm",
    "SC_rgb_jpeg_lossy_gdcm.dcm",
    "SC_rgb_jpeg_dcmtk.dcm",
    "SC_rgb_dcmtk_+eb+cr.dcm",
    "SC_rgb_dcmtk_+eb+cy+n1.dcm",
    "SC_rgb_dcmtk_+eb+cy+np.dcm",
    "SC_rgb_dcmtk_+eb+cy+s2.dcm",
    "SC_rgb_dcmtk_+eb+cy+s4.dcm",
    "SC_jpeg_no_color_transform.dcm",
    "SC_jpeg_no_color_transform_2.dcm",
    "SC_rgb_jpeg_app14_dcmd.dcm",
    "OT-PAL-8-face.dcm",
    "SC_rgb_16bit.dcm",
]


@pytest.mark.parametrize("name", REAL)
def test_real_files_are_read_as_dcmtk_reads_them(real, dcmtk, name):
    pixels = seen(real(name), accept_any=True)
    np.testing.assert_array_equal(pixels >> (8 * (pixels.dtype.itemsize - 1)), dcmtk(real(name)))


@pytest.mark.parametrize("shared", [False, True])
def test_ybr_is_converted_as_the_standard_says(make_photograph, shared):
    """PS3.3 C.7.6.3.1.2, rounded to the nearest; Pillow, whose tables have fewer bits, is never further than 1 from it."""
    dataset = make_photograph()
    ybr = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)
    if shared:
        ybr[:, 1::2, 1:] = ybr[:, ::2, 1:]
        pairs = np.stack([ybr[:, ::2, 0], ybr[:, 1::2, 0], ybr[:, ::2, 1], ybr[:, ::2, 2]], axis=-1)
    dataset.PixelData = (pairs if shared else ybr).tobytes()
    dataset.PhotometricInterpretation = "YBR_FULL_422" if shared else "YBR_FULL"
    y, cb, cr = (ybr[..., index].astype(np.float64) for index in range(3))
    exact = np.stack([y + 1.402 * (cr - 128), y - 0.344136286 * (cb - 128) - 0.714136286 * (cr - 128), y + 1.772 * (cb - 128)], axis=-1)
    pixels = seen(dataset).astype(float)
    assert np.abs(pixels - np.clip(exact, 0, 255)).max() <= 0.5 + 1e-4
    pillow = np.asarray(Image.frombytes("YCbCr", (128, 96), ybr.tobytes()).convert("RGB"))
    assert np.abs(pixels - pillow).max() <= 1


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_ybr_in_lossless_compression_is_converted_too(make_photograph, syntax):
    dataset = make_photograph()
    ybr = convert_color_space(picture(dataset), "RGB", "YBR_FULL")
    expected = convert_color_space(ybr, "YBR_FULL", "RGB")
    dataset.PixelData, dataset.PhotometricInterpretation = ybr.tobytes(), "YBR_FULL"
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(seen(dataset), expected)


def test_a_stream_that_says_ycbcr_is_believed_over_a_header_that_says_rgb(make_photograph):
    """As Pillow writes it, with a JFIF segment."""
    dataset = make_photograph()
    stream = BytesIO()
    Image.fromarray(picture(dataset)).save(stream, "JPEG", quality=90, subsampling=0)
    dataset = as_jpeg(dataset, photometric="RGB")
    dataset.PixelData = encapsulate([stream.getvalue()])
    image = read_image(film_bytes(dataset))
    assert any("it was taken as YCbCr" in note for note in image.notes)
    np.testing.assert_array_equal(np.moveaxis(image.stored_values, 0, -1), np.asarray(Image.open(stream)))


def test_the_range_is_that_of_the_bits_and_never_that_of_the_pixels(make_photograph):
    dim = make_photograph()
    dim.PixelData = (picture(dim) // 4).tobytes()
    assert [read_image(film_bytes(dataset)).rendering.window.hi for dataset in (make_photograph(), dim)] == [255.0, 255.0]


def test_sixteen_bits_are_read(make_photograph):
    dataset = make_photograph(BitsAllocated=16, BitsStored=12, HighBit=11)
    values = picture(make_photograph()).astype("<u2") * 16
    dataset.PixelData = values.tobytes()
    dataset["PixelData"].VR = "OW"
    image = read_image(film_bytes(dataset))
    assert (image.rendering.window.hi, image.rendering.window.source) == (4095.0, "the full range of 12 bits")
    np.testing.assert_array_equal(np.moveaxis(image.stored_values, 0, -1), values)


@pytest.mark.parametrize("grid", [(48, 64), (30, 50), (96, 128), 40])
def test_each_channel_is_squashed_to_a_grid_that_need_not_be_square(make_photograph, grid):
    dataset = make_photograph()
    image = to_grid(read_image(film_bytes(dataset)), grid)
    rows, columns = grid if isinstance(grid, tuple) else (grid, grid)
    left, right = box_matrix(96, rows), box_matrix(128, columns)
    expected = np.stack([left @ (picture(dataset)[..., channel] / 255) @ right.T for channel in range(3)])
    np.testing.assert_allclose(image.u, expected, atol=1e-6)
    assert image.native_unit == "RGB values"


@pytest.mark.parametrize("grid", [(48, 64), (30, 50)])
def test_the_native_scale_is_that_of_all_three_channels_together_and_is_attained(make_photograph, grid):
    """‖δu‖ · scale ≤ ‖δx‖ for any change of the RGB values, with equality for the worst one: no √3 is lost or won."""
    dataset = make_photograph()
    dataset.PixelData = np.full((96, 128, 3), 100, np.uint8).tobytes()[:-1] + b"\x65"
    before = to_grid(read_image(film_bytes(dataset)), grid)
    assert before.native_radius(1.0) == pytest.approx(255 / operator_norm(96, 128, grid))
    generator = np.random.default_rng(1)
    for _ in range(5):
        change = generator.integers(-60, 61, (96, 128, 3))
        moved = make_photograph()
        moved.PixelData = (picture(dataset) + change).astype(np.uint8).tobytes()
        after = to_grid(read_image(film_bytes(moved)), grid)
        assert np.linalg.norm(after.u - before.u) * before.native_radius(1.0) <= np.linalg.norm(change) * (1 + 1e-5)
    if grid == (48, 64):  # whole blocks: a uniform change is among the worst
        moved = make_photograph()
        moved.PixelData = (picture(dataset) + np.array([10, 20, 30])).astype(np.uint8).tobytes()
        after = to_grid(read_image(film_bytes(moved)), grid)
        distance = np.linalg.norm(np.full((96, 128, 3), [10, 20, 30]))
        assert np.linalg.norm(after.u - before.u) * before.native_radius(1.0) == pytest.approx(distance, rel=1e-5)


REFUSED = {
    "CT rendering": ({"kind": "SC", "Modality": "CT"}, "Modality CT is not that of a colour photograph"),
    "radiograph in colour": ({"kind": "SC", "Modality": "CR"}, "Modality CR is not that of a colour photograph"),
    "capture without modality": ({"kind": "SC", "Modality": None}, "Modality is missing and Secondary Capture"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_captures_of_something_else_are_refused_unless_any_is_accepted(make_photograph, name):
    changes, message = REFUSED[name]
    with pytest.raises(ImageRefusedError, match=message) as refusal:
        read_image(film_bytes(make_photograph(**changes)))
    assert "--accept-any" in str(refusal.value)
    assert seen(make_photograph(**changes), accept_any=True).shape == (96, 128, 3)


def test_the_modality_of_a_vl_image_may_be_missing(make_photograph):
    assert seen(make_photograph("ES", Modality=None)).shape == (96, 128, 3)


TECHNICAL = {
    "frames": ({"NumberOfFrames": 2}, "2 frames"),
    "ultrasound": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.6.1", "Modality": "US"}, "not gray"),
    "microscopy": ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.77.1.2", "Modality": "GM"}, "not gray"),
    "our own picture": ({"kind": "SC", "SecondaryCaptureDeviceManufacturer": "certdicom"}, "a result that certdicom wrote"),
    "samples": ({"SamplesPerPixel": 4}, "SamplesPerPixel 4 cannot be read"),
    "photometric": ({"PhotometricInterpretation": "HSV"}, "HSV with SamplesPerPixel 3 cannot be read"),
    "partial range": ({"PhotometricInterpretation": "YBR_PARTIAL_422"}, "cannot be read: send it as RGB"),
    "JPEG 2000 transform without JPEG 2000": (
        {"PhotometricInterpretation": "YBR_RCT"},
        "YBR_RCT does not go with transfer syntax Explicit",
    ),
    "signed": ({"PixelRepresentation": 1}, "colours must be unsigned"),
    "bits": ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "8 or 16 bits can"),
    "planar": ({"PlanarConfiguration": 2}, "PlanarConfiguration 2 is neither 0 nor 1"),
    "truncated": ({"Rows": 100}, "truncated"),
    "small": ({"Rows": 40}, "at least 64"),
    "strip": ({"Columns": 64, "Rows": 192}, "too elongated"),
    "shared colours of odd columns": ({"columns": 127, "PhotometricInterpretation": "YBR_FULL_422"}, "there are 127"),
    "palette missing": ({"PhotometricInterpretation": "PALETTE COLOR", "SamplesPerPixel": 1}, "palette is segmented or missing"),
    "blank": ({"PixelData": b"\x07" * (96 * 128 * 3)}, "all pixels have the same value"),
}


@pytest.mark.parametrize("name", TECHNICAL)
@pytest.mark.parametrize("accept_any", [False, True])
def test_what_is_no_whole_photograph_is_refused_in_any_case(make_photograph, name, accept_any):
    changes, message = TECHNICAL[name]
    with pytest.raises(ImageRefusedError, match=message) as refusal:
        read_image(film_bytes(make_photograph(**changes)), accept_any=accept_any or name in ("ultrasound", "microscopy"))
    assert "\n" not in str(refusal.value)


def test_a_stream_of_another_number_of_colours_is_refused(make_photograph):
    dataset = make_photograph()
    stream = BytesIO()
    Image.fromarray(picture(dataset)[..., 0]).save(stream, "JPEG")
    dataset = as_jpeg(dataset, photometric="YBR_FULL")
    dataset.PixelData = encapsulate([stream.getvalue()])
    with pytest.raises(ImageRefusedError, match="1 components but the header says 3"):
        read_image(film_bytes(dataset))


def test_films_and_photographs_are_told_apart(make_photograph, make_film):
    film = film_bytes(make_film(rows=96, columns=96))
    assert type(read_image(film)) is type(read_radiograph(film)) is Radiograph
    with pytest.raises(ImageRefusedError, match="not gray but a colour photograph"):
        read_radiograph(film_bytes(make_photograph()))


def test_a_photograph_is_described(make_photograph):
    description = describe(film_bytes(make_photograph("ES")))
    assert (description.kind, description.accepted, description.window.source) == ("colour photograph", True, "the full range of 8 bits")


def test_real_ultrasound_keeps_its_refusal(real):
    assert dcmread(real("US1_UNCR.dcm")).PhotometricInterpretation == "RGB"
    with pytest.raises(ImageRefusedError, match="Modality US is not a plain radiograph"):
        read_image(real("US1_UNCR.dcm"))


@pytest.mark.parametrize(
    "name", ["SC_rgb.dcm", "SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_gdcm_KY.dcm", "SC_rgb_jls_lossy_line.dcm", "OT-PAL-8-face.dcm"]
)
def test_whatever_is_wrong_with_the_bytes_the_refusal_is_one_line(real, name):
    generator = np.random.default_rng(4)
    whole = np.fromfile(real(name), np.uint8)
    refusals = []
    for number in range(60):
        data = whole.copy()
        if number % 4 == 0:
            data = data[: generator.integers(len(data))]
        else:
            data[generator.integers(132, min(len(data), 3000), 5)] = generator.integers(0, 256, 5)
        try:
            read_image(data.tobytes(), accept_any=True)
        except ImageRefusedError as refusal:
            refusals.append(str(refusal))
    assert len(refusals) >= 10
    assert all(refusal.isprintable() for refusal in refusals)
