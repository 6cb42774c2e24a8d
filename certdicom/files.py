"""Results are written whole or not at all, and nobody's file is overwritten by accident."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from certdicom.errors import OutputError

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


def write_atomically(path: str | os.PathLike[str], data: bytes | Callable[[BinaryIO], object], *, force: bool = False) -> Path:
    """Write `data` to `path` so that a reader sees the whole file or none; returns the path written.

    `data`: the bytes, or a function that writes them to the binary stream that it is given. A temporary file in the
    same folder is written, synced to the disk and then given its name. Without `force` an existing file is kept, also
    when two processes race for the name: one of them wins, the other raises. A symbolic link is followed under `force`.
    Raises OutputError when the file exists, the place cannot be written to, or the disk is full; what `data` itself
    raises, other than OSError, passes through. Nothing half-written stays behind.
    """
    target = Path(path)
    if os.path.lexists(target):
        if not force:
            raise OutputError(f"{target} exists already; choose another name or pass --force to replace it")
        target = Path(os.path.realpath(target))
        if target.exists() and not target.is_file():
            raise OutputError(f"{target} is not a regular file; name a file to write to")
    temporary = target.parent / f".certdicom-{secrets.token_hex(8)}.part"
    try:
        try:
            _write_synced(temporary, data)
            _give_name(temporary, target, force=force)
        finally:
            temporary.unlink(missing_ok=True)
        _sync_folder(target.parent)
    except FileExistsError as error:
        raise OutputError(f"{target} was written by another process in the meantime; it was left as it is") from error
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {_reason(error)}") from error
    return target


def _write_synced(temporary: Path, data: bytes | Callable[[BinaryIO], object]) -> None:
    # 0o666 lets the kernel apply the umask, which mkstemp's 0o600 would not.
    descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    with os.fdopen(descriptor, "wb") as stream:
        if callable(data):
            data(stream)
        else:
            stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _give_name(temporary: Path, target: Path, *, force: bool) -> None:
    if force:
        temporary.replace(target)
        return
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS or isinstance(error, FileExistsError):
            raise
        # FAT and some network folders know no hard links: claim the name exclusively, then move over the claim.
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        try:
            temporary.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    hints = {
        errno.ENOENT: "the folder does not exist; create it first",
        errno.ENOTDIR: "the folder is not a folder; choose another place",
        errno.EACCES: "no permission to write in this folder; choose another or change its permissions",
        errno.EPERM: "no permission to write in this folder; choose another or change its permissions",
        errno.EROFS: "the disk is read-only; choose another place",
        errno.ENOSPC: "the disk is full; free some space and run again",
        errno.EDQUOT: "the disk quota is used up; free some space and run again",
        errno.ENAMETOOLONG: "the name is too long; choose a shorter one",
    }
    return hints.get(error.errno or 0, f"{error.strerror or error}; check the disk and the path")
