"""Every error that certdicom raises on purpose, in one tree.

    CertdicomError
    ├── UsageError        the request cannot be carried out as asked      exit 2
    │   ├── BundleError       a bundle is unknown, damaged or does not fit
    │   └── UnreadableError   a file cannot be opened or read
    ├── ImageRefusedError  this film is not one that can be certified      exit 3
    │   └── NoImageError      this is no image at all: a folder's films are certified without it
    └── OutputError       a result could not be written                   exit 4

Each message is one line that says what was wrong, the value, and what to do. Anything else that
escapes is a defect and ends the command with exit code 5.
"""

from __future__ import annotations


class CertdicomError(Exception):
    """Base of all errors that certdicom raises on purpose; `exit_code` is what the command ends with."""

    exit_code = 5


class UsageError(CertdicomError):
    """The request is impossible or contradictory; another film would fail in the same way."""

    exit_code = 2


class BundleError(UsageError):
    """The bundle is unknown, damaged, or was not trained for what is asked of it."""


class UnreadableError(UsageError):
    """The file is not there, is no regular file, or may not be read."""


class ImageRefusedError(CertdicomError):
    """The film cannot, or by default should not, be certified; other films are not affected.

    `public`: the reason without words of the header that somebody may have written, for logs, job tables and pages.
    """

    exit_code = 3

    def __init__(self, reason: str, *, public: str | None = None) -> None:
        super().__init__(reason)
        self.public = reason if public is None else public


class NoImageError(ImageRefusedError):
    """The file is not DICOM, or holds no image that somebody took: a text, a DICOMDIR, a report, a result of certdicom's own."""


class OutputError(CertdicomError):
    """A result could not be written; nothing half-written is left behind."""

    exit_code = 4


def one_line(error: BaseException) -> str:
    """The error's message without line breaks."""
    return " ".join(str(error).split())
