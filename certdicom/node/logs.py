"""Logs: one JSON object a line, with our own words in it and nobody else's.

Only loggers below `certdicom.node` are shown at the chosen level. Libraries log what they meet, data sets and identifiers
included: of them only errors are counted, by name, without their text.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, Final, TextIO

_FIELDS: Final = (
    "job", "sender", "destination", "state", "reason", "error", "size", "abstain", "seconds", "attempts", "peer", "count", "executor",
    "address",
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
            line["message"] = "a library reported an error; its text is not repeated, as it may quote a data set"
            line["error"] = record.exc_info[0].__name__ if record.exc_info and record.exc_info[0] else record.levelname
        return json.dumps(line, ensure_ascii=False)


def start_logging(level: str, stream: TextIO | None = None) -> None:
    """Send our logs, and the fact of others' errors, to `stream` (standard error)."""
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
