"""Results are written whole or not at all, and nobody's file is overwritten by accident."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from certdicom.errors import OutputError

_NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}


Data = bytes | Callable[[BinaryIO], object]
"""The content of a file, or a function that writes it to the binary stream that it is given."""


def write_atomically(path: str | os.PathLike[str], data: Data, *, force: bool = False) -> Path:
    """Write `data` to `path` so that a reader sees the whole file or none; returns the path written.

    A temporary file in the same folder is written, synced to the disk and then given its name. Without `force` an existing file is
    kept, also when two processes race for the name: one of them wins, the other raises. A symbolic link is followed under `force`.
    Raises OutputError when the file exists, the place cannot be written to, or the disk is full; what `data` itself
    raises, other than OSError, passes through. Nothing half-written stays behind.
    """
    return write_together({Path(path): data}, force=force)[0]


def write_together(files: Mapping[Path, Data], *, force: bool = False) -> list[Path]:
    """Write several files, each as `write_atomically` does, and none of them where one cannot be written.

    All are on the disk before the first is given its name. Only with `force`, and only when giving a name fails, may some of the
    files have been replaced and others not.
    """
    if not files:
        return []
    targets = [_target(path, force=force) for path in files]
    temporaries = [target.parent / f".certdicom-{secrets.token_hex(8)}.part" for target in targets]
    named: list[Path] = []
    at_work = targets[0]
    try:
        for target, temporary, data in zip(targets, temporaries, files.values(), strict=True):
            at_work = target
            _write_synced(temporary, data)
        for target, temporary in zip(targets, temporaries, strict=True):
            at_work = target
            _give_name(temporary, target, force=force)
            named.append(target)
        for folder in dict.fromkeys(target.parent for target in targets):
            _sync_folder(folder)
    except OSError as error:
        for written in () if force else named:
            written.unlink(missing_ok=True)
        if isinstance(error, FileExistsError):
            raise OutputError(f"{at_work} was written by another process in the meantime; it was left as it is") from error
        raise OutputError(f"{at_work} cannot be written: {_reason(error)}") from error
    finally:
        for temporary in temporaries:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return targets


def _target(path: Path, *, force: bool) -> Path:
    """The file that will be written: `path`, or what it links to. OutputError when it may not be."""
    if not os.path.lexists(path):
        return path
    if not force:
        raise OutputError(f"{path} exists already; choose another name or pass --force to replace it")
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OutputError(f"{target} is not a regular file; name a file to write to")
    return target


def _write_synced(temporary: Path, data: Data) -> None:
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


def keep_private(path: Path) -> None:
    """Take a file or folder, which an earlier version may have left open, away from all but its owner; what is not ours keeps its mode."""
    with contextlib.suppress(OSError):
        path.chmod(0o700 if path.is_dir() else 0o600)
