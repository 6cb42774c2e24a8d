"""Certifying in child processes, which are kept for the next film: a hung or crashed network costs its process and one attempt.

`certifier_process` is the child.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from certdicom.errors import ImageRefusedError, OutputError
from certdicom.node.configuration import Configuration
from certdicom.node.store.records import Code

_COMMAND: Final = (sys.executable, "-P", "-m", "certdicom.node.work.certifier_process")
_END_S: Final = 5.0
_PIECE: Final = 65536


class CertifyingError(Exception):
    """Certifying came to nothing, through no fault of the disk: it took too long, its process ended, or it met a defect. `code`: which."""

    def __init__(self, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class IsolatedCertifier:
    """A `FilmCertifier`: as many children as films are certified at a time, each with its own networks, started when they are needed."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._seconds = configuration.jobs.certify_timeout_s
        self._lock = threading.Lock()
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._closed = False

    def certify(self, film: Path, folder: Path, *, window: str = "", crop: str = "") -> None:
        """`FilmCertifier.certify`. CertifyingError for what is the networks' fault, or ours."""
        child = self._taken()
        kept = False
        try:
            answer = child.ask({"film": str(film), "folder": str(folder), "window": window, "crop": crop}, self._seconds)
            kept = True
        finally:
            with self._lock:
                self._busy.discard(child)
                kept = kept and not self._closed
                if kept:
                    self._idle.append(child)
            if not kept:
                child.end()
        if answer["kind"] == "refused":
            raise ImageRefusedError(str(answer["reason"]), public=str(answer["public"]))
        if answer["kind"] == "output":
            raise OutputError(str(answer["reason"]))
        if answer["kind"] != "done":
            raise CertifyingError("defect", f"{answer.get('error', '')}, {answer.get('reason', '')}")

    def close(self) -> None:
        """End all children, at once; what they were doing comes to nothing."""
        with self._lock:
            self._closed = True
            children = [*self._idle, *self._busy]
            self._idle.clear()
        for child in children:
            child.end()

    def _taken(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.lives:
                    break
                child.end()
            else:
                child = _Child(self._configuration)
            self._busy.add(child)
            return child


class _Child:
    """One child process; asked one thing at a time."""

    def __init__(self, configuration: Configuration) -> None:
        self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  # ourselves
        self._unread = b""
        self._send(configuration.model_dump_json(by_alias=True).encode())

    @property
    def lives(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, str], seconds: float) -> dict[str, Any]:
        """The child's answer. CertifyingError when there is none; the child is of no use then."""
        deadline = time.monotonic() + seconds
        try:
            self._send(json.dumps(request).encode())
            answer = json.loads(self._line(deadline, seconds))
        except (OSError, ValueError) as error:
            raise CertifyingError("crash", f"the certifying process ended: {self._how_it_ended()}") from error
        if not isinstance(answer, dict) or "kind" not in answer:
            raise CertifyingError("crash", "the certifying process answered nonsense")
        return answer

    def end(self) -> None:
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):  # what the child was not told any more
                if stream is not None:
                    stream.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)

    def _send(self, line: bytes) -> None:
        if self._process.stdin is None:
            raise OSError("not a child of ours")
        self._process.stdin.write(line + b"\n")
        self._process.stdin.flush()

    def _line(self, deadline: float, seconds: float) -> bytes:
        """The next line. CertifyingError after `deadline`, OSError at the child's end."""
        if self._process.stdout is None:
            raise OSError("not a child of ours")
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left <= 0:
                raise CertifyingError("time-out", f"it took longer than jobs.certify_timeout_s, {seconds:g} s")
            if not select.select([descriptor], [], [], min(left, 1.0))[0]:
                continue
            piece = os.read(descriptor, _PIECE)
            if not piece:
                raise OSError("the child has ended")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def _how_it_ended(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1.0)
            return f"signal {-code}" if code < 0 else f"exit code {code}"
        return "it does not answer"
