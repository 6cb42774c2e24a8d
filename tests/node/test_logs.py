"""Whatever happens in a node, in whatever thread: what it writes are JSON lines without anybody's text."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import logging, threading, warnings
from certdicom.node.logs import start_logging
start_logging("INFO")

def burst():
    raise ValueError("Mustermann 1.2.840.4711")

class Late:
    def __del__(self):
        raise KeyError("Mustermann 1.2.840.4711")

thread = threading.Thread(target=burst)
thread.start()
thread.join()
Late()
warnings.warn("Invalid value for VR UI: 'Mustermann 1.2.840.4711'", UserWarning)
other = threading.Thread(target=lambda: warnings.warn("Mustermann 1.2.840.4711 again", UserWarning))
other.start()
other.join()
logging.getLogger("library").error("Mustermann %s", "1.2.840.4711")
logging.getLogger("certdicom.node.service").info("listening", extra={"address": "127.0.0.1"})
raise RuntimeError("Mustermann 1.2.840.4711")
"""


def test_exceptions_of_threads_and_warnings_of_libraries_are_json_lines_without_their_text() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Mustermann" not in done.stdout + done.stderr
    assert "4711" not in done.stdout + done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["level"] for line in lines] == ["ERROR", "ERROR", "WARNING", "WARNING", "ERROR", "INFO", "ERROR"]
    assert [line.get("error") for line in lines] == ["ValueError", "KeyError", "WARNING", "WARNING", "ERROR", None, "RuntimeError"]
    assert "a warning" in lines[2]["message"]
