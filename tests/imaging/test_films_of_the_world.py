"""Kinds of films that people reported: each is read right, with a note on what was read otherwise, or refused truly."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread, uid
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame

from certdicom.errors import ImageRefusedError
from certdicom.imaging.acceptance import require_referable
from certdicom.imaging.describe import describe
from certdicom.imaging.grid import to_grid
from certdicom.imaging.image import Radiograph
from certdicom.imaging.pixels import was_lossy
from certdicom.imaging.reading import read_image, read_radiograph
from certdicom.imaging.synthetic import compress, film_bytes, synthetic_film
from certdicom.outputs.result import Result


def read(**changes: object) -> Radiograph:
    options = changes.pop("options", {})
    dataset, _ = synthetic_film(rows=96, columns=80, **options)
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return read_radiograph(film_bytes(dataset))


pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")

# tables whose descriptor and entries contradict each other


@pytest.mark.parametrize("declared", [16, 14, 10, 8])
def test_a_voi_lut_is_scaled_by_the_bits_that_its_entries_use(declared: int) -> None:
    dataset, _ = synthetic_film(rows=96, columns=80, voi_lut_bits=12)
    right = read_radiograph(film_bytes(dataset))
    item = dataset.VOILUTSequence[0]
    item.LUTDescriptor = [item.LUTDescriptor[0], item.LUTDescriptor[1], declared]
    found = read_radiograph(film_bytes(dataset))
    np.testing.assert_allclose(to_grid(found, 32).u, to_grid(right, 32).u, atol=1e-6)
    assert f"the VOI LUT declares {declared} bits an entry and uses 12; it was scaled by what it uses" in found.notes
    assert not any("VOI LUT" in note for note in right.notes)


# views


@pytest.mark.parametrize(
    "view",
    [
        *("LLAT", "RLAT", "CHEST_LAT", "PA_LAT", "L", "R", "LATERO", "PROFIL", "Seitlich", "XTABLE", "X-TABLE", "CROSSTABLE LAT"),
        *("SWIMMERS", "LPO", "RAO", "LAO", "OBLIQUE", "Schräg", "AP RLD", "PA LLD", "DECUB", "Decubitus"),
    ],
)
def test_a_view_that_is_not_frontal_is_refused_in_any_spelling(view: str) -> None:
    with pytest.raises(ImageRefusedError, match=r"is another view, (lateral|oblique|decubitus), and not a frontal one"):
        read(ViewPosition=view, ViewCodeSequence=None)


@pytest.mark.parametrize("view", ["AP", "PA", "AP SUPINE", "PORTABLE AP", "SUPINE", "ERECT", "AP AXIAL", "STANDARD"])
def test_a_frontal_or_unknown_view_is_accepted(view: str) -> None:
    notes = read(ViewPosition=view, ViewCodeSequence=None).notes
    assert (f"ViewPosition {view} was taken as frontal" in notes) == (view not in ("AP", "PA"))


def test_every_value_of_the_view_is_looked_at() -> None:
    with pytest.raises(ImageRefusedError, match="ViewPosition LL is another view, left lateral"):
        read(ViewPosition=["PA", "LL"], ViewCodeSequence=None)


def test_a_modifier_may_make_a_frontal_code_oblique() -> None:
    modifier, code = Dataset(), Dataset()
    modifier.CodeValue, modifier.CodingSchemeDesignator, modifier.CodeMeaning = "399182000", "SCT", "oblique"
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "399348003", "SCT", "antero-posterior"
    code.ViewModifierCodeSequence = [modifier]
    with pytest.raises(ImageRefusedError, match="ViewModifierCodeSequence says oblique"):
        read(ViewPosition="AP", ViewCodeSequence=[code])


# body parts


@pytest.mark.parametrize(
    "part",
    [
        "TÓRAX",
        "TÃ\x93RAX",
        "TORACE",
        "CXR",
        "PECHO",
        "KLATKA",
        "HRUDNIK",
        "PLUCA",
        "MELLKAS",
        "KEUHKOT",
        "CHST",
        "PORT_CHEST",
        "Thorax a.p.",
    ],
)
def test_the_chest_is_known_in_the_words_of_many_places(part: str) -> None:
    notes = read(BodyPartExamined=part, AnatomicRegionSequence=None).notes
    assert not any("body part" in note for note in notes)


@pytest.mark.parametrize("part", ["UNKNOWN", "OTHER", "Body", "TRUNK", "n/a", "ÃÐÓÄÜ", "ÎÃÊ", ""])
def test_a_body_part_that_says_nothing_is_as_one_that_is_missing(part: str) -> None:
    notes = read(BodyPartExamined=part, AnatomicRegionSequence=None).notes
    assert "the header does not say which body part this is" in notes


@pytest.mark.parametrize("part", ["HAND", "UPPER_ABDOMEN", "TSPINE", "WHOLEBODY", "STERNUM", "SKULL"])
def test_another_body_part_is_refused(part: str) -> None:
    with pytest.raises(ImageRefusedError, match=f"BodyPartExamined {part} is not the chest"):
        read(BodyPartExamined=part)


# optional values that cannot be used


def test_numbers_with_a_decimal_comma_are_read_with_a_note() -> None:
    dataset, _ = synthetic_film(rows=96, columns=80)
    dataset.WindowCenter, dataset.WindowWidth, dataset.RescaleSlope = 2047, 3000, 1.5
    data = film_bytes(dataset)
    commas = data.replace(b"1.5 ", b"1,5 ")
    assert commas != data
    right, found = read_radiograph(data), read_radiograph(commas)
    assert found.rendering.window == right.rendering.window
    assert "RescaleSlope written with a decimal comma, which was read as a point" in found.notes


def test_the_first_window_that_is_there_is_used() -> None:
    dataset, _ = synthetic_film(rows=96, columns=80)
    dataset.WindowCenter, dataset.WindowWidth = [1111, 2048], [1111, 3000]
    found = read_radiograph(film_bytes(dataset).replace(b"1111.0", b"      "))
    assert (found.rendering.window.lo, found.rendering.window.hi) == (2047.5 - 2999 / 2, 2047.5 + 2999 / 2)


# whole frames whose file says otherwise


@pytest.mark.parametrize("encoding", ["jpeg-baseline", "jpeg-ls", "jpeg-2000", "rle"])
@pytest.mark.parametrize("end", [b"", b"\0" * 8])
def test_pixel_data_without_their_delimiter_are_read_with_a_note(encoding: str, end: bytes) -> None:
    whole = film_bytes(compress(synthetic_film(rows=96, columns=80, bits_stored=8)[0], encoding))
    delimiter = b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert whole.endswith(delimiter)
    found = read_radiograph(whole[:-8] + end)
    np.testing.assert_array_equal(found.stored_values, read_radiograph(whole).stored_values)
    assert "the pixel data have no sequence delimiter; their fragments are whole, and were read" in found.notes
    with pytest.raises(ImageRefusedError, match="truncated"):
        read_radiograph(whole[:-12])


@pytest.mark.parametrize(("surplus", "note"), [(b"\x1a\x1a", "2 bytes"), (bytes(range(1, 250)) * 4, "996 bytes"), (b"\0", "1 zero bytes")])
def test_bytes_after_the_pixels_are_ignored_with_a_note(surplus: bytes, note: str) -> None:
    whole = film_bytes(synthetic_film(rows=96, columns=80)[0])
    found = read_radiograph(whole + surplus)
    np.testing.assert_array_equal(found.stored_values, read_radiograph(whole).stored_values)
    assert f"{note} after the data set were ignored" in found.notes


# what no result can refer to


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"StudyInstanceUID": None}, "StudyInstanceUID is missing"),
        ({"SeriesInstanceUID": ""}, "SeriesInstanceUID is missing"),
        ({"StudyInstanceUID": "1." + "2" * 64}, "StudyInstanceUID is no valid UID"),
        ({"StudyInstanceUID": "1.2.abc"}, "StudyInstanceUID is no valid UID"),
        ({"SOPClassUID": None}, "SOPClassUID is missing"),
        ({"SOPClassUID": "1.2.392.200036.9125.1.1.2"}, "SOP Class is a private one"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.3"}, "SOP Class is Digital Intra-Oral X-Ray Image Storage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.1.2"}, "SOP Class is Digital Mammography X-Ray Image Storage"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.3"}, "SOP Class is Multi-frame Grayscale Word Secondary Capture"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.12.2"}, "SOP Class is X-Ray Radiofluoroscopic Image Storage"),
    ],
)
def test_what_no_result_can_refer_to_is_told_before_any_draw(changes: dict, message: str) -> None:
    dataset, _ = synthetic_film(rows=96, columns=80)
    meta = dataset.file_meta
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    dataset.file_meta = meta
    data = film_bytes(dataset)
    image = read_radiograph(data)  # to look at and to learn from
    with pytest.raises(ImageRefusedError, match=message) as caught:
        require_referable(image.dataset)
    assert "1.2.abc" not in str(caught.value)
    described = describe(data)
    assert not described.accepted
    assert message in str(described.reason)


# what a site calls the chest


@pytest.mark.parametrize(("stated", "listed"), [("RX_TORSO", "rx torso"), ("ГРУДЬ-2", "грудь 2"), ("胸部", "胸部"), ("WS-01", "ws 01")])
def test_a_site_may_have_words_of_its_own_for_the_chest(stated: str, listed: str) -> None:
    dataset, _ = synthetic_film(rows=96, columns=80)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    del dataset.AnatomicRegionSequence
    dataset.BodyPartExamined = "X" * len(stated.encode())
    data = film_bytes(dataset).replace(dataset.BodyPartExamined.encode(), stated.encode())
    assert "the header does not say which body part this is" not in read_image(data, body_parts=["HALS", listed]).notes
    assert describe(data, body_parts=[listed]).accepted
    strict = describe(data, body_parts=["HALS"])
    assert not strict.accepted or "the header does not say which body part this is" in strict.notes


# notes on what is read otherwise than it is written


@pytest.mark.parametrize(
    ("encoding", "declared", "kind"),
    [
        ("jpeg-baseline", "JPEGLosslessSV1", "JPEG"),
        ("jpeg-ls-near", "JPEGLSLossless", "JPEG-LS"),
        ("jpeg-2000-lossy", "JPEG2000Lossless", "JPEG 2000"),
    ],
)
def test_a_lossy_stream_under_a_lossless_syntax_is_told_and_marked(encoding: str, declared: str, kind: str, make_certificate) -> None:
    film, _ = synthetic_film(rows=96, columns=80, bits_stored=8)
    lossy = dcmread(BytesIO(film_bytes(compress(film, encoding))))
    lossy.LossyImageCompression = "00"
    truthful = read_radiograph(film_bytes(lossy))
    lossy.file_meta.TransferSyntaxUID = getattr(uid, declared)
    untrue = read_radiograph(film_bytes(lossy))
    np.testing.assert_array_equal(untrue.stored_values, truthful.stored_values)
    (note,) = (note for note in untrue.notes if "promises no loss" in note)
    assert f"the {kind} stream is of a coding that loses" in note
    assert not any("promises no loss" in note for note in truthful.notes)
    for image in (untrue, truthful):
        certificate = make_certificate(decisions=np.zeros((3, 16, 16), np.uint8))
        for name in ("seg", "sc"):
            assert dcmread(BytesIO(Result(image, certificate).encode(name))).LossyImageCompression == "01"


@pytest.mark.parametrize("encoding", ["jpeg-ls", "jpeg-2000", "rle"])
def test_a_stream_without_loss_is_not_taken_for_a_lossy_one(encoding: str) -> None:
    dataset, _ = synthetic_film(rows=96, columns=80)
    packed = compress(dataset, encoding)
    assert not was_lossy(dcmread(BytesIO(film_bytes(packed))))
    assert not any("loses" in note for note in read_radiograph(film_bytes(packed)).notes)


@pytest.mark.parametrize("signed", [False, True])
def test_bits_above_those_that_are_stored_are_told(signed: bool) -> None:
    dataset, _ = synthetic_film(rows=96, columns=80, bits_stored=10, signed=signed)
    right = read_radiograph(film_bytes(dataset))
    assert not any("BitsStored" in note for note in right.notes), "sign bits are no surplus"
    words = np.frombuffer(dataset.PixelData, "<u2").copy()
    words[: len(words) // 4] ^= 1 << 11
    dataset.PixelData = words.tobytes()
    found = read_radiograph(film_bytes(dataset))
    np.testing.assert_array_equal(found.stored_values, right.stored_values)
    assert "25.0% of the pixels use bits above BitsStored, which were left out" in found.notes
    dataset.add_new(0x60000102, "US", 11)  # an overlay lies in those bits
    dataset.add_new(0x60000100, "US", 16)
    assert not any("BitsStored" in note for note in read_radiograph(film_bytes(dataset)).notes)


@pytest.mark.parametrize("zeros", [b"\0", b"\0\0\0"])
@pytest.mark.parametrize("encoding", ["jpeg-ls", "jpeg-2000"])
def test_zeros_before_the_end_marker_do_no_harm(encoding: str, zeros: bytes) -> None:
    dataset, _ = synthetic_film(rows=96, columns=80)
    packed = dcmread(BytesIO(film_bytes(compress(dataset, encoding))))
    stream = get_frame(packed.PixelData, 0, number_of_frames=1).rstrip(b"\0")
    packed.PixelData = encapsulate([stream[:-2] + zeros + stream[-2:]])
    packed["PixelData"].is_undefined_length = True
    found = read_radiograph(film_bytes(packed))
    np.testing.assert_array_equal(found.stored_values, read_radiograph(film_bytes(dataset)).stored_values)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"PixelSpacing": ["0.2", "0.1"]}, "PixelSpacing without ImagerPixelSpacing and without a calibration"),
        ({"PixelSpacing": ["0.2", "0.1"]}, "the pixels are not square (0.2 by 0.1 mm)"),
        ({"NominalScannedPixelSpacing": ["0.2", "0.2"]}, "lengths are those of the scanned film (NominalScannedPixelSpacing)"),
    ],
)
def test_what_a_spacing_leaves_open_is_told(changes: dict, note: str) -> None:
    assert any(note in found for found in read(ImagerPixelSpacing=None, **changes).notes)
    assert not any(note in found for found in read().notes)


def test_a_calibrated_spacing_leaves_nothing_open() -> None:
    image = read(ImagerPixelSpacing=None, PixelSpacing=["0.2", "0.2"], PixelSpacingCalibrationType="GEOMETRY")
    assert not any("PixelSpacing" in note for note in image.notes)
