"""What is not one whole frontal chest film is refused, with the reason in one line."""

from __future__ import annotations

import os
import re
import zlib
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import UID

from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.acceptance import CHEST_CODES, FRONTAL_CODES
from certdicom.imaging.grid import to_grid
from certdicom.imaging.parsing import MOST_BYTES
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import compress, film_bytes


def put(**changes):
    """A change of the header: sets attributes, or removes those that are None."""

    def change(header):
        for keyword, value in changes.items():
            if value is None:
                header.pop(keyword, None)
            else:
                setattr(header, keyword, value)

    return change


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


SHOWN = {
    "CT": (put(Modality="CT"), "Modality CT is not a plain radiograph"),
    "MR": (put(Modality="MR"), "Modality MR is not"),
    "angiography": (put(Modality="XA"), "Modality XA is not"),
    "fluoroscopy": (put(Modality="RF"), "Modality RF is not"),
    "mammogram": (put(Modality="MG"), "Modality MG is not"),
    "unknown": (put(Modality=None, SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "Modality is missing and its SOP Class, Secondary Capture"),
    "left lateral": (put(ViewPosition="LL"), "ViewPosition LL is another view, left lateral,"),
    "right lateral": (put(ViewPosition="RL"), "ViewPosition RL is another view, right lateral,"),
    "lateral in words": (put(ViewPosition="LATERAL"), "ViewPosition LATERAL is another view, lateral"),
    "lateral of a vendor": (put(ViewPosition="CHEST LAT"), "ViewPosition CHEST LAT is another view, lateral,"),
    "oblique": (put(ViewPosition="RLO"), "right lateral oblique"),
    "lying on a side": (put(ViewPosition="LLD"), "left lateral decubitus"),
    "lateral code": (put(ViewCodeSequence=code("399067008", "SCT", "lateral")), "ViewCodeSequence says LATERAL"),
    "old lateral code": (put(ViewCodeSequence=code("R-10236", "SRT", "left lateral")), "ViewCodeSequence says LEFT LATERAL"),
    "rows run to the front": (put(PatientOrientation=["A", "F"]), "PatientOrientation A/F is a lateral view"),
    "rows run to the back": (put(PatientOrientation=["P", "F"]), "PatientOrientation P/F is a lateral view"),
    "hand": (put(BodyPartExamined="HAND"), "BodyPartExamined HAND is not the chest"),
    "abdomen": (put(BodyPartExamined="ABDOMEN"), "BodyPartExamined ABDOMEN is not"),
    "breast": (put(BodyPartExamined="BREAST"), "BodyPartExamined BREAST is not"),
    "thoracic spine": (put(BodyPartExamined="THORACIC SPINE"), "BodyPartExamined THORACIC SPINE is not"),
    "region": (put(AnatomicRegionSequence=code("818981001", "SCT", "Abdomen")), "AnatomicRegionSequence says ABDOMEN"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_header_that_says_it_is_something_else_is_refused(read, name):
    change, message = SHOWN[name]
    with pytest.raises(ImageRefusedError, match=re.escape(message)) as refusal:
        read(change)
    assert "--accept-any" in str(refusal.value)


@pytest.mark.parametrize("name", SHOWN)
def test_accept_any_waives_what_the_film_shows(read, name):
    assert read(SHOWN[name][0], accept_any=True).rows == 120


@pytest.mark.parametrize(
    "change",
    [
        put(Modality="RG"),
        put(Modality=None),
        put(BodyPartExamined="THORAX"),
        put(BodyPartExamined="LUNG"),
        put(BodyPartExamined="RIBS"),
        put(BodyPartExamined="CHEST_PA"),
        put(BodyPartExamined="CHESTABDOMEN"),
        put(BodyPartExamined=None, AnatomicRegionSequence=None),
        put(ViewPosition="AP"),
        put(ViewPosition="", ViewCodeSequence=None),
        put(ViewPosition="", ViewCodeSequence=code("R-10214", "SNM3", "postero-anterior")),
        put(ViewCodeSequence=code("P1", "99VENDOR", "Postero-Anterior")),
        put(AnatomicRegionSequence=code("T-D3000", "SRT", "Chest")),
        put(AnatomicRegionSequence=code("X1", "99VENDOR", "Thorax front")),
        put(PatientOrientation=["L", "FP"]),
        put(PatientOrientation=None),
    ],
)
def test_what_may_be_a_frontal_chest_film_is_read(read, change):
    assert read(change).rows == 120


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (put(BodyPartExamined=None, AnatomicRegionSequence=None), "does not say which body part"),
        (put(ViewPosition=None, ViewCodeSequence=None), "does not say which view"),
        (put(ViewPosition="THORAX FRONT", ViewCodeSequence=None), "ViewPosition THORAX FRONT was taken as frontal"),
        (put(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), "a Secondary Capture that says Modality DX"),
        (put(PresentationIntentType="FOR PROCESSING"), "raw detector data"),
        (put(PatientOrientation=["R", "F"]), "mirrored"),
        (put(PatientOrientation=["F", "R"]), "not shown upright"),
    ],
)
def test_what_is_odd_but_no_reason_to_refuse_is_noted(read, change, note):
    assert any(note in each for each in read(change).notes)


def test_the_codes_are_those_of_the_standard():
    """Against pydicom's copy of PS3.16: every SCT code has the meaning that the table says, and belongs to its context group."""
    from pydicom.sr._concepts_dict import concepts

    meanings: dict[str, list[tuple[str, list[int]]]] = {}
    for entry in concepts["SCT"].values():
        for value, (meaning, groups) in entry.items():
            meanings.setdefault(value, []).append((meaning.lower(), groups))
    for table, group in ((CHEST_CODES, 4), (FRONTAL_CODES, 4010)):
        for (scheme, value), meaning in table.items():
            if scheme != "SCT" or value == "51185008":  # chest as it was coded before 2020
                continue
            assert any(meaning == name and (group in groups or 7155 in groups or 4009 in groups) for name, groups in meanings[value]), value


TECHNICAL = {
    "no pixel data": (put(PixelData=None), "no pixel data"),
    "empty pixel data": (put(PixelData=b""), "pixel data is empty"),
    "no instance UID": (put(SOPInstanceUID=None), "SOPInstanceUID is missing"),
    "empty instance UID": (put(SOPInstanceUID=""), "SOPInstanceUID is missing"),
    "several frames": (put(NumberOfFrames=2), "2 frames"),
    "no frame": (put(NumberOfFrames=0), "0 frames"),
    "colour": (put(PhotometricInterpretation="RGB", SamplesPerPixel=3), "not gray (PhotometricInterpretation RGB, SamplesPerPixel 3)"),
    "palette": (put(PhotometricInterpretation="PALETTE COLOR"), "not gray"),
    "photometric missing": (put(PhotometricInterpretation=None), "PhotometricInterpretation missing"),
    "rows missing": (put(Rows=None), "Rows is missing"),
    "no rows": (put(Rows=0), "0 x 96 pixels"),
    "one pixel": (put(Rows=1, Columns=1), "1 x 1 pixels; at least 64"),
    "tiny": (put(Columns=63), "120 x 63 pixels"),
    "absurd": (put(Rows=20000, Columns=20000), "20000 x 20000 pixels, more than the 50,000,000"),
    "elongated": (put(Rows=400, Columns=96), "too elongated"),
    "32 bits": (put(BitsAllocated=32), "BitsAllocated 32"),
    "more bits stored than allocated": (put(BitsStored=17), "BitsStored 17"),
    "no bits stored": (put(BitsStored=0), "BitsStored 0"),
    "high bit outside": (put(HighBit=16), "HighBit 16"),
    "high bit below": (put(HighBit=5), "HighBit 5"),
    "bits missing": (put(BitsStored=None), "BitsStored is missing"),
    "odd representation": (put(PixelRepresentation=2), "PixelRepresentation 2"),
    "one row too many": (put(Rows=121), "instead of 23232 for 121 x 96 pixels: the file is truncated"),
    "two images in one frame": (lambda header: setattr(header, "PixelData", header.PixelData * 2), "room for several images"),
    "rows of several values": (
        lambda header: header.__setitem__("Rows", header["Rows"].__class__(0x00280010, "US", [120, 96])),
        "one whole number",
    ),
}


@pytest.mark.parametrize("name", TECHNICAL)
@pytest.mark.parametrize("accept_any", [False, True])
def test_what_is_no_whole_gray_film_is_refused_in_any_case(read, name, accept_any):
    change, message = TECHNICAL[name]
    with pytest.raises(ImageRefusedError, match=re.escape(message)):
        read(change, accept_any=accept_any)


def test_an_absurd_size_is_refused_before_anything_is_decoded(film, monkeypatch):
    packed = compress(film(), "jpeg-2000")
    packed.Rows = packed.Columns = 60000
    monkeypatch.setattr("certdicom.imaging.reading.decode", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(ImageRefusedError, match="60000 x 60000"):
        read_radiograph(film_bytes(packed))


@pytest.mark.parametrize("encoding", ["jpeg-2000", "jpeg-ls", "jpeg-baseline"])
def test_a_codestream_of_another_size_is_refused_before_it_is_decoded(film, encoding, monkeypatch):
    packed = compress(film(bits_stored=8), encoding)
    packed.Rows, packed.Columns = 96, 120
    monkeypatch.setattr("certdicom.imaging.pixels.get_decoder", lambda _: type("Decoder", (), {"is_available": True}))
    with pytest.raises(ImageRefusedError, match=r"has 120 x 96 pixels but the header says 96 x 120"):
        read_radiograph(film_bytes(packed))


@pytest.mark.parametrize("encoding", ["jpeg-2000", "jpeg-ls", "jpeg-baseline"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9, 0.99])
def test_a_codestream_that_is_cut_off_within_whole_fragments_is_refused(film, encoding, share):
    from pydicom.encaps import generate_frames

    packed = compress(film(bits_stored=8), encoding)
    (frame,) = generate_frames(packed.PixelData, number_of_frames=1)
    packed.PixelData = encapsulate([frame[: int(len(frame) * share) // 2 * 2]])
    with pytest.raises(ImageRefusedError, match=r"truncated|damaged"):
        read_radiograph(film_bytes(packed))


@pytest.mark.parametrize("data", [b"", b"\0", b"hello", b"\0" * 1000, b"%PDF-1.7" + b"x" * 500, b"\x89PNG\r\n\x1a\n" * 50, b"DICM"])
def test_what_is_not_dicom_is_refused(data):
    with pytest.raises(ImageRefusedError, match=r"empty|not a DICOM file"):
        read_radiograph(data)


def test_a_prefix_with_nothing_behind_it_is_truncated():
    with pytest.raises(ImageRefusedError, match="truncated"):
        read_radiograph(b"\0" * 128 + b"DICM")


@pytest.mark.parametrize("value", [0, 1, 2000])
def test_a_constant_image_is_refused(read, value):
    pixels = np.full(120 * 96, value, "<u2").tobytes()
    with pytest.raises(ImageRefusedError, match=rf"all pixels have the same value \({value}\)"):
        read(put(PixelData=pixels))


def test_a_nearly_constant_image_without_a_window_is_refused(read):
    pixels = np.full(120 * 96, 7, "<u2")
    pixels[5000] = 4000
    film = read(put(PixelData=pixels.tobytes()), modality="CR", window=None)
    with pytest.raises(ImageRefusedError, match="98 % of the image has the same value"):
        to_grid(film, 32)


@pytest.mark.parametrize(
    ("syntax", "message"),
    [
        ("1.2.3.4.5.6.7.8", "transfer syntax 1.2.3.4.5.6.7.8 is not known"),
        ("1.2.840.10008.1.2.4.100", "cannot be read"),
        ("1.2.840.10008.1.2.4.94", "cannot be read"),
    ],
)
def test_a_transfer_syntax_that_cannot_be_read_is_refused(film, syntax, message):
    packed = compress(film(), "rle")
    data = film_bytes(packed).replace(b"1.2.840.10008.1.2.5\0", b"1.2.840.10008.1.2.5\0")
    dataset = dcmread(BytesIO(data))
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    dataset["PixelData"].is_undefined_length = True
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True, implicit_vr=False, little_endian=True)
    with pytest.raises(ImageRefusedError, match=message):
        read_radiograph(buffer.getvalue())


def test_a_deflated_bomb_is_refused_without_filling_the_memory(film):
    data = film_bytes(compress(film(), "deflated"))
    meta_end = data.index(b"1.2.840.10008.1.2.1.99") + 22
    squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = bytes(1 << 24)
    bomb = b"".join(squeezer.compress(block) for _ in range(MOST_BYTES // len(block) + 1)) + squeezer.flush()
    with pytest.raises(ImageRefusedError, match="grows beyond"):
        read_radiograph(data[:meta_end] + bomb)


def test_paths_that_cannot_be_read_are_usage_errors(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        read_radiograph(tmp_path / "missing.dcm")
    with pytest.raises(UsageError, match="not a regular file"):
        read_radiograph(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        read_radiograph("a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="not a regular file"):
        read_radiograph(tmp_path / "pipe")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_usage_error(tmp_path):
    path = tmp_path / "film.dcm"
    path.write_bytes(b"x")
    path.chmod(0)
    with pytest.raises(UsageError, match="Permission denied"):
        read_radiograph(path)


def test_a_file_beyond_all_films_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "huge.dcm"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)  # sparse: takes no room
    with pytest.raises(ImageRefusedError, match="more than"):
        read_radiograph(path)
