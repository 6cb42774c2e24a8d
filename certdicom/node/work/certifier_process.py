"""The child process in which films are certified, `python -m certdicom.node.work.certifier_process CONFIG`; see `isolated`.

It reads requests from standard input and answers on standard output, a line of JSON each. What a network, a decoder or the memory does to
it costs this process and one attempt, never the node. It ends when its standard input does: with the node, however that ended.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from certdicom.errors import ImageRefusedError, OutputError
from certdicom.models.bundle import load_bundle
from certdicom.node.configuration import Configuration
from certdicom.node.identity import read_site_key
from certdicom.node.logs import start_logging
from certdicom.node.work.attempts import public
from certdicom.node.work.certify import PipelineCertifier

_PRIVATE: Final = 0o077
_MIB: Final = 1024 * 1024


def main() -> None:
    """Answer requests until standard input ends. Its first line is the configuration."""
    for stop in (signal.SIGINT, signal.SIGTERM):  # meant for the node, who may want to finish its film
        signal.signal(stop, signal.SIG_IGN)
    os.umask(_PRIVATE)
    lines, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # so that no library reads what is meant for us, or waits for it,
    os.dup2(2, 1)  # and none's output is taken for an answer
    configuration = Configuration.model_validate_json(lines.readline())
    start_logging(configuration.log.level)
    _limit_memory(configuration.jobs.certify_memory_mb * _MIB)
    requests: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines, requests), daemon=True).start()
    certifier: PipelineCertifier | None = None
    while True:
        request = requests.get()
        try:
            if certifier is None:
                site_key = read_site_key(configuration.state_dir / "site.key")
                certifier = PipelineCertifier(configuration, load_bundle(configuration.certificate.bundle), site_key)
            certifier.certify(Path(request["film"]), Path(request["folder"]), window=request["window"], crop=request["crop"])
            answer = {"kind": "done"}
        except BaseException as error:  # noqa: BLE001  # decoders raise what they like; whatever it is, the node is told
            answer = _told(error)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _read(lines: BinaryIO, requests: queue.SimpleQueue[dict[str, Any]]) -> None:
    for line in lines:
        requests.put(json.loads(line))
    os._exit(0)  # the node has ended; nobody waits for what is being computed


def _told(error: BaseException) -> dict[str, str]:
    if isinstance(error, ImageRefusedError):
        return {"kind": "refused", "reason": str(error), "public": error.public}
    if isinstance(error, (OutputError, OSError)):
        return {"kind": "output", "reason": public(error)}
    return {"kind": "defect", "error": type(error).__name__, "reason": public(error)}


def _limit_memory(most: int) -> None:
    """Bound what this process may allocate, on top of what it has; 0 for no bound."""
    if most:
        with suppress(ImportError, OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_DATA, (most, most))


if __name__ == "__main__":
    main()
