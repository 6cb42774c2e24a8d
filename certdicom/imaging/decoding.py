"""Compressed pixel data are decoded in a child process, which is kept for the next image.

Whatever a damaged or hostile stream does to a decoder, it costs the child: its memory is bounded, its time is watched, and it is started
again. What comes back is the bytes of an array and nothing that could be executed. `decoder_process` is the child.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Event, Lock, Timer
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST_MEMORY: Final = 1 << 30
"""Bytes that decoding one image may allocate; an image of 30 million pixels takes a fifth of it."""

MOST_SECONDS: Final = 60.0
"""A large film takes one or two."""


_DAMAGED: Final = ": the file is truncated or damaged, send it again"
_OTHERWISE: Final = ": send the film uncompressed"
_LONGEST_ANSWER: Final = 1000


class DecodingError(Exception):
    """Why an image did not decode, and what to do, as words that fit behind "the pixel data …"."""


@dataclass(frozen=True)
class DecodingRequest:
    """What a decoder must know beside the encapsulated pixel data.

    `layout`: the attributes of the Image Pixel module, by keyword; `jpeg`: the arguments of libjpeg-turbo, where it decodes.
    """

    transfer_syntax: str
    layout: Mapping[str, Any]
    jpeg: Mapping[str, str] | None = None


@dataclass
class Decoder:
    """A child process, started when it is needed. One image at a time."""

    memory: int = MOST_MEMORY
    seconds: float = MOST_SECONDS
    _process: subprocess.Popen[bytes] | None = None
    _owner: int = 0
    _one: Lock = field(default_factory=Lock)

    def decode(self, request: DecodingRequest, data: bytes) -> NDArray[np.integer]:
        """The words as they decode. DecodingError for anything else."""
        with self._one:
            answer, words = self._answered(request, data) or self._answered(request, data) or ("crash", None)
        if words is not None:
            return words
        raise DecodingError(
            {
                "memory": f"needs more than {self.memory >> 20} MB to decode{_OTHERWISE}",
                "time": f"takes more than {self.seconds:g} s to decode{_OTHERWISE}",
                "crash": f"makes its decoder crash{_DAMAGED}",
            }.get(answer, f"does not decode{_DAMAGED}")
        )

    def _answered(self, request: DecodingRequest, data: bytes) -> tuple[str, NDArray[np.integer] | None] | None:
        """The child's words; or why there are none, and None; or nothing where it ended, which another process may have caused."""
        process, late = self._started(), Event()

        def give_up() -> None:
            late.set()
            process.kill()

        watch = Timer(self.seconds, give_up)
        watch.start()
        try:
            return self._asked(process, request, data)
        except (OSError, ValueError, TypeError, LookupError):
            process.kill()
            self.close()
            return ("time", None) if late.is_set() else None
        finally:
            watch.cancel()

    def _asked(self, process: subprocess.Popen[bytes], request: DecodingRequest, data: bytes) -> tuple[str, NDArray[np.integer] | None]:
        """The child's words; or the kind of its error, and None. OSError, ValueError, TypeError or LookupError for no such answer."""
        fields = {"transfer_syntax": request.transfer_syntax, "layout": request.layout, "jpeg": request.jpeg, "bytes": len(data)}
        requests, answers = process.stdin, process.stdout
        if requests is None or answers is None:
            raise ValueError("not a child of ours")
        requests.write(json.dumps(fields).encode() + b"\n")
        requests.write(data)
        requests.flush()
        answer = json.loads(answers.readline(_LONGEST_ANSWER))
        if "error" in answer:
            return str(answer["error"]), None
        size, kind = answer["bytes"], np.dtype(answer["dtype"])
        if not 0 <= size <= self.memory or kind.kind not in "iu":
            raise ValueError("no answer of ours")
        content = answers.read(size)
        return "", np.frombuffer(content, kind).reshape(answer["shape"])

    def _started(self) -> subprocess.Popen[bytes]:
        """The child of this very process: a fork's would answer two."""
        if self._process is None or self._owner != os.getpid() or self._process.poll() is not None:
            self.close()
            self._owner = os.getpid()
            command = [sys.executable, "-P", "-m", "certdicom.imaging.decoder_process", str(self.memory)]
            environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env=environment)  # noqa: S603  # ourselves
        return self._process

    def close(self) -> None:
        """End the child."""
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        for stream in (process.stdin, process.stdout):
            with suppress(OSError):  # what the child was not told any more
                if stream is not None:
                    stream.close()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


DECODER: Final = Decoder()
"""This process's."""

atexit.register(DECODER.close)
