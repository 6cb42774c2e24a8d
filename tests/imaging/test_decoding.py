"""Decoders are kept in a child process: what they use up, raise or crash with costs one image, in words."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from io import BytesIO

import imagecodecs
import jpeg_ls
import numpy as np
import pytest
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from certdicom.errors import ImageRefusedError
from certdicom.imaging.decoding import Decoder, DecodingError, DecodingRequest
from certdicom.imaging.reading import read_image
from certdicom.imaging.synthetic import synthetic_film

SIDE = 1200


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 4096, (SIDE, SIDE)).astype(np.uint16)


@pytest.fixture(scope="module")
def data(words: np.ndarray) -> bytes:
    return encapsulate([bytes(jpeg_ls.encode(words))])


REQUEST = DecodingRequest(
    str(JPEGLSLossless),
    {
        "Rows": SIDE, "Columns": SIDE, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 0, "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "PlanarConfiguration": 0,
    },
)  # fmt: skip


@pytest.fixture
def decoder():
    made: list[Decoder] = []

    def make(**limits) -> Decoder:
        made.append(Decoder(**limits))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_one_child_decodes_image_after_image(decoder, data: bytes, words: np.ndarray) -> None:
    one = decoder()
    children = set()
    for _ in range(3):
        assert np.array_equal(one.decode(REQUEST, data), words)
        children.add(one._process.pid)
    assert len(children) == 1


def test_memory_is_bounded_and_the_child_goes_on(decoder, data: bytes, words: np.ndarray) -> None:
    one = decoder(memory=8 << 20)
    for _ in range(2):
        with pytest.raises(DecodingError, match="needs more than 8 MB to decode: send the film uncompressed"):
            one.decode(REQUEST, data)


def test_time_is_bounded_and_the_next_image_gets_a_new_child(decoder, data: bytes, words: np.ndarray) -> None:
    one = decoder(seconds=0.05)
    with pytest.raises(DecodingError, match=r"takes more than 0.05 s to decode"):
        one.decode(REQUEST, data)
    one.seconds = 60
    assert np.array_equal(one.decode(REQUEST, data), words)


def test_a_child_that_somebody_else_kills_is_asked_again_and_a_stop_is_not_its_own(decoder, data: bytes, words: np.ndarray) -> None:
    """Ctrl-C and a service's stop go to all processes: a film in work must not be refused for that."""
    one = decoder()
    one.decode(REQUEST, data)
    child = one._process
    for stop in (signal.SIGINT, signal.SIGTERM):
        child.send_signal(stop)
    assert np.array_equal(one.decode(REQUEST, data), words)
    assert one._process is child
    asked = one._asked

    def killed(process: subprocess.Popen[bytes], *arguments: object):
        if process is child:
            process.kill()
        return asked(process, *arguments)

    one._asked = killed
    assert np.array_equal(one.decode(REQUEST, data), words)
    assert one._process is not child


def test_a_child_that_was_killed_is_replaced(decoder, data: bytes, words: np.ndarray) -> None:
    one = decoder()
    one.decode(REQUEST, data)
    os.kill(one._process.pid, signal.SIGKILL)
    one._process.wait(10)
    assert np.array_equal(one.decode(REQUEST, data), words)


@pytest.mark.parametrize(("crash", "said"), [("os.abort()", "makes its decoder crash"), ("raise GeneratorExit", "does not decode")])
def test_a_crash_and_a_panic_are_refusals(decoder, data: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path, crash: str, said: str) -> None:
    """A decoder that ends its process, and one that raises what is no Exception, as pyo3's do."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nfrom pydicom.pixels.decoders.base import Decoder\n"
        f"def burst(*_, **__):\n    {crash}\nif 'certdicom.imaging.decoder_process' in sys.orig_argv:\n    Decoder.as_array = burst\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    with pytest.raises(DecodingError, match=said):
        decoder().decode(REQUEST, data)


def test_the_child_writes_no_file_and_ends_with_its_parent(data: bytes) -> None:
    code = (
        "import sys\nfrom certdicom.imaging.decoding import Decoder, DecodingRequest\n"
        "one = Decoder()\none._started()\nprint(one._process.pid, flush=True)\nsys.stdin.read()\nimport os\nos._exit(0)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    while resource.prlimit(child, resource.RLIMIT_FSIZE) != (0, 0):  # once it has started
        assert parent.poll() is None
    parent.communicate("", timeout=30)
    waited = subprocess.run(
        ["bash", "-c", f"for _ in $(seq 100); do kill -0 {child} 2>/dev/null || exit 0; sleep .1; done; exit 1"], check=False
    )
    assert waited.returncode == 0


ENCODERS = {
    JPEGLSLossless: lambda pixels: bytes(jpeg_ls.encode(pixels)),
    JPEG2000Lossless: lambda pixels: imagecodecs.jpeg2k_encode(pixels, codecformat="j2k", level=0, reversible=True),
    JPEGLosslessSV1: imagecodecs.ljpeg_encode,
    JPEGBaseline8Bit: lambda pixels: imagecodecs.jpeg8_encode((pixels >> 4).astype(np.uint8)),
}


def film_of(syntax: str, frame: bytes, *, bits: int) -> bytes:
    dataset, _ = synthetic_film(rows=128, columns=128)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = (8, 8, 7) if bits == 8 else (16, 12, 11)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.PixelData = encapsulate([frame])
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    stream = BytesIO()
    dataset.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize("syntax", [*ENCODERS, RLELossless], ids=lambda syntax: syntax.name)
def test_damaged_streams_are_read_or_refused_and_nothing_else(syntax) -> None:
    dataset, _ = synthetic_film(rows=128, columns=128)
    if syntax == RLELossless:
        dataset.compress(RLELossless)
        frame = get_frame(dataset.PixelData, 0, number_of_frames=1)
    else:
        frame = ENCODERS[syntax](dataset.pixel_array.astype(np.uint16))
    bits = 8 if syntax == JPEGBaseline8Bit else 12
    assert read_image(film_of(syntax, frame, bits=bits)).stored_values.shape == (128, 128)
    choose = random.Random(1)  # noqa: S311  # damage that can be repeated
    outcomes = set()
    for _ in range(60):
        damaged = bytearray(frame)
        for _ in range(choose.choice((1, 3, 30))):
            damaged[choose.randrange(len(damaged))] = choose.randrange(256)
        if choose.random() < 0.2:
            del damaged[choose.randrange(len(damaged)) :]
        damaged += b"\0" * (len(damaged) % 2)
        try:
            read_image(film_of(syntax, bytes(damaged), bits=bits))
            outcomes.add("read")
        except ImageRefusedError as refusal:
            outcomes.add("refused" if "\n" not in str(refusal) else "lines")
    assert outcomes <= {"read", "refused"}
    assert "refused" in outcomes


def test_an_answer_is_bytes_and_never_executed(decoder, data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that a stream took over could answer anything: only arrays of the kinds of NumPy that hold no objects are made of it."""
    answers = [
        {"shape": [1], "dtype": "|O", "bytes": 8}, {"shape": [-1, 3], "dtype": "<u2", "bytes": 8},
        {"shape": [4], "dtype": "<u2", "bytes": -1},
        {"shape": [4], "dtype": "<u2", "bytes": 10**12}, {"shape": [1], "dtype": "<M8", "bytes": 8}, {"dtype": "<u2"}, ["x"], "x", 1, None,
    ]  # fmt: skip
    for answer in answers:
        one, child = decoder(), _Answering(json.dumps(answer).encode() + b"\n" + b"\0" * 8)
        monkeypatch.setattr(one, "_started", lambda child=child: child)
        with pytest.raises(DecodingError, match="makes its decoder crash"):
            one.decode(REQUEST, data)


class _Answering:
    """A process that has answered already."""

    def __init__(self, answer: bytes) -> None:
        self.stdin, self.stdout = BytesIO(), BytesIO(answer)

    def kill(self) -> None:
        """It is gone."""

    def wait(self, _timeout: float | None = None) -> int:
        return 0
