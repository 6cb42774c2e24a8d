"""What is fuzzed: each target takes bytes, whatever they are, and raises only where certdicom would be at fault.

A target has seeds to begin with, made here, and a corpus of what was once found, in `corpus/NAME`.
"""

from __future__ import annotations

import json
import logging
import socket
import struct
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.uid import UID, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1, JPEGLSLossless, RLELossless
from pynetdicom.ae import ApplicationEntity

from certdicom.errors import CertdicomError, ImageRefusedError
from certdicom.imaging.describe import describe
from certdicom.imaging.inheritance import IDENTITY, inheritance_of
from certdicom.imaging.reading import image_of
from certdicom.imaging.synthetic import compress, film_bytes, synthetic_film
from certdicom.models.bundle import load_bundle
from certdicom.models.program import Program
from certdicom.node.configuration import load_configuration
from certdicom.node.service import Service
from certdicom.node.work.jobs.memory import MemoryQueue

sys.path.insert(0, str(Path(__file__).parents[1] / "node"))

from fakes import BUNDLE, write_bundle

CORPUS: Final = Path(__file__).parent / "corpus"

_PATIENCE_S: Final = 45
"""Longer than any time-out of the node that is attacked."""

ROWS, COLUMNS = 80, 72


@dataclass(frozen=True)
class Target:
    """`run` takes any bytes; `seeds` gives bytes to begin with; `most_bytes`: longer inputs are not tried."""

    name: str
    run: Callable[[bytes], None]
    seeds: Callable[[], Iterator[bytes]]
    most_bytes: int = 65536

    def kept(self) -> Iterator[Path]:
        """What was found earlier."""
        return iter(sorted((CORPUS / self.name).glob("*")))


def _film(**options: Any) -> Dataset:
    return synthetic_film(rows=ROWS, columns=COLUMNS, bits_stored=8, **options)[0]


def _require(rule: bool, broken: str) -> None:
    if not rule:
        raise AssertionError(broken)


def _require_line(*messages: str) -> None:
    for message in messages:
        _require(message.isprintable(), f"not one line of printable characters: {message!r}")


# whole files: headers, and pixels in every syntax


def run_film(data: bytes) -> None:
    """A film, or a refusal of one printable line; `describe` says the same."""
    try:
        image = image_of(data, accept_any=False)
    except ImageRefusedError as refusal:
        _require_line(str(refusal), refusal.public)
        _require(not describe(data).accepted, "info says that it is accepted")
        return
    assert image.planes.shape[1:] == (image.rows, image.columns)
    assert image.display().shape[:2] == (image.rows, image.columns)
    _require_line(*image.notes)


def films() -> Iterator[bytes]:
    for encoding in ("explicit-little", "implicit-little", "explicit-big", "deflated"):
        yield film_bytes(compress(_film(), encoding))
    for options in (
        {"voi_lut_bits": 10},
        {"modality_lut": True},
        {"padding": 4},
        {"window": None},
        {"window": "SIGMOID"},
        {"modality": "CR"},
    ):
        yield film_bytes(_film(**options))


# codestreams, in a header that fits them

_PREAMBLE: Final = b"\0" * 128 + b"DICM"

_SYNTAXES: Final = (RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGBaseline8Bit, JPEGLosslessSV1)


@cache
def _around(syntax: UID) -> tuple[bytes, bytes]:
    """A film in that syntax, what is before its codestream and what is behind it."""
    film = compress(_film(), "rle")
    film.file_meta.TransferSyntaxUID = syntax
    marker = b"CODESTREAM" * 10
    film.PixelData = encapsulate([marker], has_bot=False)
    before, after = film_bytes(film).split(marker)
    return before[:-4], after


def run_codestream(data: bytes) -> None:
    """The first byte chooses the transfer syntax, the rest is the codestream."""
    if not data:
        return
    before, after = _around(_SYNTAXES[data[0] % len(_SYNTAXES)])
    stream = data[1:] + b"\0" * (len(data) % 2 == 0)
    run_film(before + struct.pack("<I", len(stream)) + stream + after)


def codestreams() -> Iterator[bytes]:
    for number, encoding in enumerate(("rle", "jpeg-ls", "jpeg-2000", "jpeg-baseline")):
        packed = dcmread(BytesIO(film_bytes(compress(_film(), encoding))))
        yield bytes([number]) + get_frame(packed.PixelData, 0, number_of_frames=1)


# character sets

_TERMS: Final = (
    *("", "ISO_IR 100", "ISO_IR 192", "GB18030", "ISO_IR 13", r"\ISO 2022 IR 87", r"\ISO 2022 IR 149", r"ISO 2022 IR 13\ISO 2022 IR 87"),
    *(r"\ISO 2022 IR 58", "ISO-IR 144", "UTF-8", r"ISO 2022 IR 6\IS", "ISO_IR 126"),
)


def run_text(data: bytes) -> None:
    """The first byte chooses the character set, the rest is every identifier: written again, its bytes are what they were."""
    if not data:
        return
    text = data[1:].strip(b" \0")
    if not text or b"\\" in text:  # whose values would be several
        return
    film = Dataset()
    for keyword in IDENTITY:
        setattr(film, keyword, "")
    film.SpecificCharacterSet = _TERMS[data[0] % len(_TERMS)].split("\\")
    film = dcmread(BytesIO(_bytes_with(film, text)), force=True)
    taken = inheritance_of(film)
    for again in (taken.elements, inheritance_of(film).elements):
        written = dcmread(BytesIO(_written(again)), force=True)
        for keyword in IDENTITY:
            found = bytes(written.get_item(keyword).value).rstrip(b" \0")
            assert found == text, f"{keyword}: {text!r} became {found!r}"
    _require_line(*taken.notes)


def _bytes_with(dataset: Dataset, text: bytes) -> bytes:
    """The data set with `text` in every identifier, in explicit little endian after a preamble."""
    padded = text + b" " * (len(text) % 2)
    made = DicomBytesIO()
    made.is_little_endian, made.is_implicit_VR = True, False
    write_dataset(made, dataset)
    content = made.getvalue()
    for keyword in IDENTITY:
        empty = dataset[keyword]
        head = struct.pack("<HH2s", empty.tag.group, empty.tag.element, empty.VR.encode())
        content = content.replace(head + b"\0\0", head + struct.pack("<H", len(padded)) + padded)
    return _PREAMBLE + content


def _written(dataset: Dataset) -> bytes:
    made = DicomBytesIO()
    made.is_little_endian, made.is_implicit_VR = True, False
    write_dataset(made, dataset)
    return _PREAMBLE + made.getvalue()


def texts() -> Iterator[bytes]:
    names = ("Müller^Jörg", "Yamada^Tarou=山田^太郎=やまだ^たろう", "Hong^Gildong=洪^吉洞=홍^길동", "Wang^XiaoDong=王^小东", "Иванов^Иван")
    codecs = ("latin-1", "utf-8", "iso2022_jp", "euc_kr", "gb18030", "cp1251", "shift_jis", "iso2022_kr")
    for number in range(len(_TERMS)):
        for name in names:
            yield bytes([number]) + name.encode(codecs[number % len(codecs)], "replace")


# what comes over the wire


class _Listener:
    """A node's receiving side with its limits, a folder and a database, and the faults of its threads."""

    def __init__(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="certdicom-fuzz-"))
        settings = {"NODE_PORT": "0", "NODE_STATE_DIR": str(folder / "state"), "WEB_PORT": "0", "LIMITS_MIN_FREE_MB": "1"}
        settings |= {
            "CERTIFICATE_BUNDLE": str(write_bundle(folder / "bundle")),
            "LIMITS_NETWORK_TIMEOUT_S": "2",
            "LIMITS_REQUEST_TIMEOUT_S": "2",
            "LOG_LEVEL": "ERROR",
        }
        self._log = logging.getLogger("certdicom")
        self._level = self._log.level
        self._log.setLevel(logging.CRITICAL)
        self.faults: list[str] = []
        self._hook = threading.excepthook
        threading.excepthook = lambda told: self.faults.append(f"{told.exc_type.__name__}: {told.exc_value}")
        self.service = Service(
            load_configuration(None, {f"CERTDICOM_{name}": value for name, value in settings.items()}),
            certifier=_Refusing(),
            job_queue=MemoryQueue(),
        )
        self.service.start()
        self.asked = 0

    @property
    def port(self) -> int:
        assert self.service.scp is not None
        return self.service.scp.port

    def close(self) -> None:
        self.service.stop()
        threading.excepthook = self._hook
        self._log.setLevel(self._level)

    def is_well(self) -> bool:
        """Whether it answers a C-ECHO before long: as many associations as it allows may have to end first."""
        until = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if time.monotonic() > until:
                return False
            time.sleep(0.5)
        return True

    def _answers(self) -> bool:
        entity = ApplicationEntity("ECHO")
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = 20
        entity.add_requested_context("1.2.840.10008.1.1")
        association = entity.associate("127.0.0.1", self.port, ae_title="CERTDICOM")
        if not association.is_established:
            return False
        status = association.send_c_echo()
        association.release()
        return "Status" in status and status.Status == 0


class _Refusing:
    """Certifies nothing: what comes in is what is looked at here."""

    def close(self) -> None:
        """Nothing runs elsewhere."""

    def certify(self, film: Path, folder: Path, *, window: str = "", crop: str = "") -> None:
        del folder, window, crop
        image_of(film.read_bytes(), accept_any=False)
        raise ImageRefusedError("nothing is certified here")


@cache
def _listener() -> _Listener:
    return _Listener()


def stop_listening() -> None:
    """End the node, if there is one."""
    if _listener.cache_info().currsize:
        _listener().close()
        _listener.cache_clear()


def run_pdus(data: bytes) -> None:
    """The bytes after the first go to a listening node; an odd first byte has a proper association before them."""
    listener = _listener()
    if not data:
        return
    with socket.create_connection(("127.0.0.1", listener.port), timeout=10) as connection:
        try:
            if data[0] % 2:
                connection.sendall(association_request())
                connection.recv(65536)
            connection.sendall(data[1:])
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass
        except OSError:  # it may hang up, and may take its time to
            pass
    listener.asked += 1
    assert not listener.faults, listener.faults
    if listener.asked % 100 == 1:
        assert listener.is_well(), "the node does not answer a C-ECHO any more"


def association_request() -> bytes:
    """An A-ASSOCIATE-RQ (PS3.8 9.3.2) for CR storage in explicit little endian, as context 1."""

    def item(kind: int, content: bytes) -> bytes:
        return struct.pack(">BBH", kind, 0, len(content)) + content

    context = item(0x20, b"\x01\0\0\0" + item(0x30, b"1.2.840.10008.5.1.4.1.1.1") + item(0x40, b"1.2.840.10008.1.2.1"))
    user = item(0x50, item(0x51, struct.pack(">I", 16384)) + item(0x52, b"1.2.3.4"))
    body = struct.pack(">HH", 1, 0) + b"CERTDICOM".ljust(16) + b"FUZZ".ljust(16) + b"\0" * 32
    body += item(0x10, b"1.2.840.10008.3.1.1.1") + context + user
    return struct.pack(">BBI", 1, 0, len(body)) + body


def store_request() -> bytes:
    """A C-STORE of a small film on that association: a command and a data set, each in one P-DATA-TF (PS3.8 9.3.5)."""
    film = _film(modality="CR")
    command = Dataset()
    command.CommandGroupLength = 0
    command.AffectedSOPClassUID, command.AffectedSOPInstanceUID = film.SOPClassUID, film.SOPInstanceUID
    command.CommandField, command.MessageID, command.Priority, command.CommandDataSetType = 1, 1, 0, 0
    made = DicomBytesIO()
    made.is_little_endian, made.is_implicit_VR = True, True
    write_dataset(made, command)
    content = made.getvalue()
    content = content[:8] + struct.pack("<I", len(content) - 12) + content[12:]
    del film.file_meta
    parts = ((3, content), (2, _written(film)[len(_PREAMBLE) :][:16000]))

    def pdu(flags: int, fragment: bytes) -> bytes:
        value = struct.pack(">IBB", len(fragment) + 2, 1, flags) + fragment
        return struct.pack(">BBI", 4, 0, len(value)) + value

    return b"".join(pdu(flags, fragment) for flags, fragment in parts)


def pdus() -> Iterator[bytes]:
    yield b"\0" + association_request()
    yield b"\x01" + store_request()
    yield b"\x01" + struct.pack(">BBII", 5, 0, 4, 0)  # A-RELEASE-RQ
    yield b"\x01" + struct.pack(">BBII", 7, 0, 4, 0)  # A-ABORT
    yield b"\x01" + store_request() + struct.pack(">BBII", 5, 0, 4, 0)


# bundles of strangers


def run_bundle(data: bytes) -> None:
    """A first byte 0 makes it a bundle.json, 1 the archive of a program; what is wrong is told as a BundleError or ValueError."""
    if not data:
        return
    if data[0] % 2:
        try:
            Program.from_bytes(data[1:])
        except ValueError as error:
            _require_line(str(error))
        return
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "bundle.json").write_bytes(data[1:])
        try:
            load_bundle(folder)
        except CertdicomError as error:
            _require_line(str(error))


def bundles() -> Iterator[bytes]:
    shipped = Path(__file__).parents[2] / "certdicom" / "bundles" / "cxr-gray-256"
    yield b"\0" + json.dumps(BUNDLE).encode()
    yield b"\0" + (shipped / "bundle.json").read_bytes()
    yield b"\x01" + Program({"image": [1, 16, 16]}, b"<net/>", b"\0" * 64).to_bytes()


TARGETS: Final = {
    target.name: target
    for target in (
        Target("films", run_film, films),
        Target("codestreams", run_codestream, codestreams),
        Target("texts", run_text, texts, most_bytes=256),
        Target("pdus", run_pdus, pdus, most_bytes=32768),
        Target("bundles", run_bundle, bundles, most_bytes=16384),
    )
}


def quietly(target: Target, data: bytes) -> None:
    """Run a target without the warnings of libraries, which are no faults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target.run(data)
