"""An instance on its way in: to disk and through the hash as it comes, and never whole in memory."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from certdicom.node.store.spool import Spool

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_BUFFER: Final = 1024 * 1024
_LOOK_EVERY: Final = 16 * 1024 * 1024
"""Bytes between two looks at the free disk space."""


class Incoming(BytesIO):
    """Stands in for the BytesIO in which pynetdicom collects a data set: what is written to it goes to a file in `incoming`.

    `objection`: why it is not kept, "" if it is; what comes after an objection is taken and thrown away, so that the sender
    can be answered. Ends with `keep` or `discard`, whichever is called first; until it was claimed anybody may discard it,
    from any thread.
    """

    def __init__(self, spool: Spool, *, head: bytes, salt: bytes, min_free: int) -> None:
        """`head`: what the file begins with; `salt`: what the digest begins with; `min_free`: bytes of disk that must stay free."""
        super().__init__()
        self.size = 0
        self.objection = ""
        self._spool, self._min_free = spool, min_free
        self._hash = hashlib.sha256(salt)
        self._next_look = 0
        self._lock = threading.RLock()
        self._claimed = False
        self._path: Path | None = None
        self._stream: BinaryIO | None = None
        if self._has_space():
            try:
                self._path = spool.new_file()
                self._stream = self._path.open("xb", buffering=_BUFFER)
                self._stream.write(head)
                self.size = len(head)
            except OSError as error:
                self._object(f"the disk cannot be written to: {error.strerror}")

    @property
    def path(self) -> Path:
        """The file, all that was written in it."""
        if self._path is None or self._stream is None:
            raise RuntimeError("this instance is not kept")
        self._stream.flush()
        return self._path

    def digest(self) -> str:
        """SHA-256 of the salt and all that came, in hexadecimal."""
        return self._hash.hexdigest()

    def write(self, buffer: ReadableBuffer, /) -> int:
        view = memoryview(buffer)
        with self._lock:
            if self._stream is None:
                return view.nbytes
            self._hash.update(view)
            try:
                self._stream.write(view)
            except OSError as error:
                self._object(f"the disk cannot be written to: {error.strerror}")
                return view.nbytes
            self.size += view.nbytes
            if self.size >= self._next_look:
                self._next_look = self.size + _LOOK_EVERY
                self._has_space()
        return view.nbytes

    @property
    def claimed(self) -> bool:
        return self._claimed

    def claim(self) -> bool:
        """Take it from the association, whose end discards it otherwise; False when that was first."""
        with self._lock:
            taken, self._claimed = not self._claimed, True
            return taken

    def keep(self, target: Path) -> None:
        """Sync it to the disk under its name. OSError when that fails."""
        path, stream = self.path, self._stream
        if stream is None:
            raise RuntimeError("this instance is not kept")
        self._spool.sync(stream)
        stream.close()
        self._spool.place(path, target)
        self._path = self._stream = None

    def discard(self) -> None:
        """Remove what came, unless it was kept."""
        with self._lock:
            path, stream, self._path, self._stream = self._path, self._stream, None, None
        if stream is not None:
            with contextlib.suppress(OSError):  # what could not be written is not wanted
                stream.close()
        if path is not None:
            path.unlink(missing_ok=True)

    def _has_space(self) -> bool:
        if self._spool.free_bytes() < self._min_free:
            self._object("less disk space than limits.min_free_mb is left")
        return not self.objection

    def _object(self, reason: str) -> None:
        self.objection = reason
        self.discard()
