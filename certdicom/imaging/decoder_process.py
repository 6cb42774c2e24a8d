"""The child process in which compressed pixel data are decoded, `python -m certdicom.imaging.decoder_process`; see `decoding`.

It reads requests from standard input and answers on standard output: a line of JSON, then the bytes that the line announces.
Decoders are libraries in C and Rust that were not written for hostile files; here they can use up no more than their share of memory,
write no file, and whatever they raise, exit or crash with ends this process at worst.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from imagecodecs import jpeg8_decode
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels import get_decoder


def main() -> None:
    """Answer requests until standard input ends. The first argument: how many bytes of memory decoding may take."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # meant for the parent, who may want to finish its film; without it this process ends
        signal.signal(stop, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # so that no library's output is taken for an answer
    _limit(int(sys.argv[1]))
    requests = sys.stdin.buffer
    while line := requests.readline():
        request = json.loads(line)
        data = requests.read(request["bytes"])
        try:
            words = np.ascontiguousarray(_decoded(request, data))
        except BaseException as problem:  # noqa: BLE001  # decoders raise what they like; pyo3's panics are no Exceptions
            _answer(answers, {"error": "memory" if _is_of_memory(problem) else "damage"}, b"")
            continue
        _answer(answers, {"shape": words.shape, "dtype": words.dtype.str, "bytes": words.nbytes}, words.data)


def _answer(stream: BinaryIO, fields: dict[str, Any], content: bytes | memoryview) -> None:
    stream.write(json.dumps(fields).encode() + b"\n")
    stream.write(content)
    stream.flush()


def _is_of_memory(problem: BaseException) -> bool:
    """Whether memory ran out. pydicom passes on what its decoders said, and some say nothing else without a word."""
    said = [line.strip() for line in str(problem).splitlines()[1:]]
    return isinstance(problem, MemoryError) or any(line.endswith(":") or "alloc" in line.lower() for line in said)


def _limit(memory: int) -> None:
    """Bound what decoding may allocate, on top of what is mapped by now, and forbid files."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        mapped = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (mapped + memory, mapped + memory))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _decoded(request: dict[str, Any], data: bytes) -> NDArray[np.integer]:
    if request["jpeg"] is not None:
        return np.asarray(jpeg8_decode(get_frame(data, 0, number_of_frames=1), **request["jpeg"]))
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = request["transfer_syntax"]
    for keyword, value in request["layout"].items():
        setattr(dataset, keyword, value)
    dataset.PixelData = data
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    decoder = get_decoder(request["transfer_syntax"])
    return np.asarray(decoder.as_array(dataset, raw=True, index=0, correct_unused_bits=False)[0])


if __name__ == "__main__":
    main()
