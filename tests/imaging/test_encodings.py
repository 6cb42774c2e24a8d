"""Every encoding gives the same stored values as the pixels that were written."""

from __future__ import annotations

import hashlib
import warnings
from io import BytesIO

import numpy as np
import pytest
from pydicom import dcmread, dcmwrite
from pydicom.encaps import encapsulate, generate_frames

from certdicom.errors import ImageRefusedError, UsageError
from certdicom.imaging.reading import read_radiograph
from certdicom.imaging.synthetic import ENCODINGS, compress, film_bytes

LOSSLESS = ["explicit-little", "implicit-little", "explicit-big", "deflated", "rle", "jpeg-ls", "jpeg-2000"]
LOSSY = {"jpeg-ls-near": 2, "jpeg-2000-lossy": 400, "jpeg-baseline": 40}


def test_every_encoding_is_covered():
    assert set(LOSSLESS) | set(LOSSY) == set(ENCODINGS)


@pytest.mark.parametrize("encoding", LOSSLESS)
@pytest.mark.parametrize(
    "arguments",
    [
        {"bits_stored": 8},
        {"bits_stored": 8, "rows": 121, "columns": 97},
        {"bits_stored": 10},
        {"bits_stored": 12, "photometric": "MONOCHROME1"},
        {"bits_stored": 16},
        {"bits_stored": 8, "bits_allocated": 16},
        {"modality": "CR", "bits_stored": 12, "signed": True},
        {"modality": "CR", "bits_stored": 16, "signed": True},
    ],
    ids=lambda arguments: "-".join(str(value) for value in arguments.values()),
)
def test_a_lossless_encoding_gives_every_stored_value(film, words, encoding, arguments):
    native = film(**arguments)
    if encoding == "rle" and arguments.get("bits_allocated") == 16:
        with pytest.raises(UsageError, match="drops the upper byte"):
            compress(native, encoding)
        return
    read = read_radiograph(film_bytes(compress(native, encoding)))
    np.testing.assert_array_equal(read.stored_values, words(native))
    assert read.stored_values.dtype == np.int32
    assert read.notes == ()


@pytest.mark.parametrize("encoding", sorted(LOSSY))
def test_a_lossy_encoding_comes_close(film, words, encoding):
    native = film(bits_stored=8 if encoding == "jpeg-baseline" else 12)
    read = read_radiograph(film_bytes(compress(native, encoding)))
    error = np.abs(read.stored_values - words(native))
    assert error.max() <= LOSSY[encoding]
    assert error.mean() <= LOSSY[encoding] * 0.7


@pytest.mark.parametrize("signed", [False, True])
def test_bits_outside_the_stored_ones_are_dropped(film, words, signed):
    native = film(modality="CR", bits_stored=12, signed=signed)
    expected = words(native)
    raw = np.frombuffer(native.PixelData, "<u2").copy()
    overlay = np.random.default_rng(0).integers(0, 16, raw.size).astype("<u2") << 12
    native.PixelData = ((raw & 0x0FFF) | overlay).tobytes()
    np.testing.assert_array_equal(read_radiograph(film_bytes(native)).stored_values, expected)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("encoding", ["explicit-little", "explicit-big", "rle"])
def test_pixels_may_lie_high_in_their_words(film, words, signed, encoding):
    high = film(modality="CR", bits_stored=12, high_bit=15, signed=signed)
    low = film(modality="CR", bits_stored=12, signed=signed)
    read = read_radiograph(film_bytes(compress(high, encoding)))
    np.testing.assert_array_equal(read.stored_values, words(low))


@pytest.mark.parametrize("encoding", ["explicit-little", "implicit-little", "explicit-big"])
@pytest.mark.parametrize("keep", ["file meta without preamble", "data set alone"])
def test_files_without_preamble_or_file_meta_are_read(film, words, encoding, keep):
    native = film()
    data = film_bytes(compress(native, encoding))
    if keep == "data set alone":
        buffer = BytesIO()
        dataset = dcmread(BytesIO(data))
        del dataset.file_meta
        implicit, little = encoding == "implicit-little", encoding != "explicit-big"
        dcmwrite(buffer, dataset, implicit_vr=implicit, little_endian=little, force_encoding=True)
        data = buffer.getvalue()
        if data[128:132] == b"DICM":
            data = data[132:]
    else:
        data = data[132:]
    read = read_radiograph(data)
    np.testing.assert_array_equal(read.stored_values, words(native))
    assert "no DICOM preamble" in read.notes[0]
    assert read.dataset.file_meta.TransferSyntaxUID == ENCODINGS[encoding].keywords["syntax"]


@pytest.mark.parametrize("encoding", ["rle", "jpeg-ls", "jpeg-2000", "jpeg-baseline"])
def test_a_compressed_data_set_alone_tells_its_compression(film, words, encoding):
    native = film(bits_stored=8)
    data = film_bytes(compress(native, encoding))
    start = data.index(b"\x08\x00\x05\x00CS")  # SpecificCharacterSet, the first element after the file meta
    read = read_radiograph(data[start:])
    assert np.abs(read.stored_values - words(native)).max() <= (40 if encoding == "jpeg-baseline" else 0)
    assert any("names no transfer syntax" in note for note in read.notes)


def test_a_frame_in_several_fragments_is_joined(film, words):
    native = film()
    packed = compress(native, "jpeg-2000")
    (frame,) = generate_frames(packed.PixelData, number_of_frames=1)
    packed.PixelData = encapsulate([frame], fragments_per_frame=4)
    np.testing.assert_array_equal(read_radiograph(film_bytes(packed)).stored_values, words(native))


def test_lossy_overshoot_is_clipped_and_does_not_wrap(film):
    """A codestream of 16 bits for 12 stored ones: values above 4095 are white, not black."""
    native = film(bits_stored=16)
    native.PixelData = np.where(np.arange(120 * 96) % 5 == 0, 4100, 2000).astype("<u2").tobytes()
    packed = compress(native, "jpeg-2000-lossy")
    packed.BitsStored, packed.HighBit = 12, 11
    values = read_radiograph(film_bytes(packed)).stored_values
    assert values.max() == 4095
    assert values.min() > 1000


def test_one_frame_is_a_film(read):
    assert read(lambda header: setattr(header, "NumberOfFrames", 1)).rows == 120


def test_a_path_a_string_and_bytes_give_the_same_film(film, tmp_path):
    data = film_bytes(film())
    path = tmp_path / "film.dcm"
    path.write_bytes(data)
    films = [read_radiograph(source) for source in (path, str(path), data)]
    assert {film.file_sha256 for film in films} == {hashlib.sha256(data).hexdigest()}
    assert films[0].sop_instance_uid == films[2].sop_instance_uid


def test_pad_bytes_after_the_data_set_are_ignored_and_noted(film):
    read = read_radiograph(film_bytes(film()) + b"\0")
    assert read.notes == ("1 zero bytes after the data set were ignored",)


def test_header_values_against_the_rules_are_counted_and_not_quoted(film):
    dataset = film()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.Doe^John"
        data = film_bytes(dataset)
    read = read_radiograph(data)
    assert any("break the rules of DICOM" in note for note in read.notes)
    assert not any("Doe" in note for note in read.notes)


def test_reading_leaves_the_data_set_as_it_was_in_the_file(film):
    data = film_bytes(film())
    read = read_radiograph(data)
    assert film_bytes(read.dataset) == data


def test_a_signed_codestream_mismatch_does_not_pass_silently(film):
    native = film()
    packed = compress(native, "jpeg-2000")
    packed.Rows = 119
    with pytest.raises(ImageRefusedError, match="120 x 96 pixels but the header says 119 x 96"):
        read_radiograph(film_bytes(packed))
