"""Logs: one JSON object a line, with our own words in it and nobody else's.

Only loggers below `certdicom.node` are shown at the chosen level. Libraries log what they meet, data sets and identifiers
included: of them only errors and warnings are counted, by name, without their text. So are exceptions that nobody caught, in whatever
thread: a traceback would quote what it was about.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from typing import Any, Final, TextIO

_LOG = logging.getLogger("certdicom.node.logs")

_FIELDS: Final = (
    "job", "sender", "destination", "state", "reason", "error", "size", "abstain", "seconds", "attempts", "peer", "count", "executor",
    "address", "before", "output",
)  # fmt: skip
"""All that a message may carry besides its text."""


class JsonLines(logging.Formatter):
    """`{"time", "level", "room", "message", …}`; the message is a constant text, values are in fields of their own."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname,
            "room": record.name.removeprefix("certdicom."),
        }
        if record.name.startswith("certdicom."):
            line["message"] = record.getMessage()
            line |= {name: getattr(record, name) for name in _FIELDS if getattr(record, name, None) not in (None, "")}
        else:
            kind = "a warning" if record.levelno < logging.ERROR else "an error"
            line["message"] = f"a library reported {kind}; its text is not repeated, as it may quote a data set"
            line["error"] = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else record.levelname
        return json.dumps(line, ensure_ascii=False)


def start_logging(level: str, stream: TextIO | None = None) -> None:
    """Send our logs, and the fact of others' errors and warnings, to `stream` (standard error)."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.ERROR)
    ours = logging.getLogger("certdicom.node")
    ours.setLevel(level)
    # Peers that break off make pynetdicom log errors in plenty; what matters is logged by us.
    logging.getLogger("pynetdicom").setLevel(logging.CRITICAL)
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    for name in ("dbos", "uvicorn", "uvicorn.error", "sqlalchemy"):
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.getLogger("uvicorn.access").disabled = True
    logging.captureWarnings(capture=True)
    logging.getLogger("py.warnings").setLevel(logging.WARNING)
    sys.excepthook = lambda kind, _error, _trace: _uncaught(kind)
    threading.excepthook = lambda told: _uncaught(told.exc_type)
    sys.unraisablehook = lambda told: _uncaught(told.exc_type)


def _uncaught(kind: type[BaseException]) -> None:
    """An exception that reached the end of a thread, or that Python could hand to nobody."""
    if not issubclass(kind, (SystemExit, KeyboardInterrupt)):
        _LOG.error("an exception was caught by nobody: this is a defect, please report it", extra={"error": kind.__name__})
