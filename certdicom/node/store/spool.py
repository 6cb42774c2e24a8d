"""The spool: films and results on disk, each there whole or not at all, also when the power fails.

    state_dir/
      incoming/        what is being made; nothing in it counts
      films/           ID.dcm, certified or to be certified
      ignored/         ID.dcm, stored, not processed
      requests/        ID.json, what senders have asked us to commit ourselves to, until they are told
      results/         ID/ with the outputs of `certdicom.outputs`: seg.dcm, preview.png, report.json and what `[results]` asks for
      site.key         keys the noise and the pseudonyms
      spool.id         which spool this is

A result is renamed into place as a folder: whoever is first wins, and its bytes are the result for good.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from certdicom import outputs
from certdicom.errors import OutputError, UsageError
from certdicom.files import keep_private, write_atomically

_ABANDONED_S: Final = 6 * 3600
"""What has been in `incoming` for so long, as seen by us and not by a clock that can be set, belongs to nobody any more."""


class Spool:
    """The folders of one spool; safe to use from several processes and hosts at once."""

    def __init__(self, root: Path) -> None:
        """Make the folders. UsageError when the place cannot be used."""
        self.root = root
        self.incoming, self.films, self.ignored, self.results = (root / name for name in ("incoming", "films", "ignored", "results"))
        self.requests = root / "requests"
        self._first_seen: dict[Path, float] = {}
        try:
            for folder in (root, self.incoming, self.films, self.ignored, self.results, self.requests):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
                if folder != root:
                    keep_private(folder)
        except OSError as error:
            raise UsageError(f"node.state_dir {root} cannot be used: {error.strerror}") from error

    @property
    def identity(self) -> str:
        """The spool's own id, made on first use: a shared folder has it on every host."""
        path = self.root / "spool.id"
        if not path.exists():
            try:
                write_atomically(path, secrets.token_hex(16).encode())
            except OutputError:
                if not path.exists():
                    raise
        return path.read_text(encoding="ascii").strip()

    def free_bytes(self) -> int:
        return shutil.disk_usage(self.root).free

    def film(self, job_id: str) -> Path:
        return self.films / f"{job_id}.dcm"

    def ignored_instance(self, job_id: str) -> Path:
        return self.ignored / f"{job_id}.dcm"

    def result(self, job_id: str) -> Path:
        return self.results / job_id

    def request(self, promise_id: str) -> Path:
        """What a sender has asked us to commit ourselves to."""
        return self.requests / f"{promise_id}.json"

    def objects(self, job_id: str) -> list[Path]:
        """The DICOM objects of a result, in the order in which they are sent; empty when there is no result."""
        return [path for output in outputs.OUTPUTS if output.sop_class and (path := self.result(job_id) / output.file_name).exists()]

    def new_file(self) -> Path:
        """A name in `incoming` that nobody else has."""
        return self.incoming / f"{secrets.token_hex(8)}.part"

    def sync(self, stream: BinaryIO) -> None:
        """Write what a stream holds through to the disk. OSError when that fails."""
        stream.flush()
        os.fsync(stream.fileno())

    def place(self, path: Path, target: Path) -> None:
        """Give a synced file of `incoming` its name for good. Who has the name already has the same bytes, which its digest names."""
        path.replace(target)
        _sync(target.parent)

    def ignore(self, job_id: str) -> None:
        """Move a film to the ignored instances."""
        try:
            self.film(job_id).replace(self.ignored_instance(job_id))
        except FileNotFoundError:
            if not self.ignored_instance(job_id).exists():
                raise
            return
        _sync(self.ignored)
        _sync(self.films)

    def recall(self, job_id: str) -> None:
        """Move an ignored instance back to the films, if it is there."""
        try:
            self.ignored_instance(job_id).replace(self.film(job_id))
        except FileNotFoundError:
            return
        _sync(self.films)

    def new_folder(self) -> Path:
        """An empty folder in which a result can be made."""
        folder = self.incoming / secrets.token_hex(8)
        folder.mkdir(mode=0o700)
        return folder

    def adopt(self, folder: Path, job_id: str) -> bool:
        """Make `folder` the result of a job; False, and `folder` removed, when there is one already. OutputError if it fails."""
        target = self.result(job_id)
        try:
            for path in folder.iterdir():
                _sync(path)
            _sync(folder)
            folder.rename(target)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                shutil.rmtree(folder, ignore_errors=True)
                return False
            raise OutputError(f"the result folder {target} cannot be written: {error.strerror}") from error
        _sync(self.results)
        return True

    def discard(self, folder: Path) -> None:
        """Remove a folder made by `new_folder` that came to nothing."""
        shutil.rmtree(folder, ignore_errors=True)

    def remove_film(self, job_id: str) -> None:
        self.film(job_id).unlink(missing_ok=True)
        self.ignored_instance(job_id).unlink(missing_ok=True)

    def remove_result(self, job_id: str) -> None:
        target = self.result(job_id)
        if target.exists():
            # Renamed first, so that nobody meets half a result.
            doomed = self.incoming / f"removed-{secrets.token_hex(8)}"
            target.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    def film_ids(self) -> Iterator[str]:
        """Ids of all films that wait in the spool."""
        for path in sorted(self.films.glob("*.dcm")):
            if not path.name.startswith("."):
                yield path.stem

    def sweep(self) -> int:
        """Remove what dead processes left unfinished; returns how many pieces."""
        now, count = time.monotonic(), 0
        leftovers = [*self.incoming.iterdir(), *self.films.glob(".certdicom-*.part"), *self.ignored.glob(".certdicom-*.part")]
        self._first_seen = {path: self._first_seen.get(path, now) for path in leftovers}
        for path, seen in self._first_seen.items():
            if now - seen < _ABANDONED_S:
                continue
            try:
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                count += 1
            except FileNotFoundError:  # another process was first
                continue
        return count


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
