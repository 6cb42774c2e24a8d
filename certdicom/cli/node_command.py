"""`certdicom node`: receive films, certify them, return the results to the archive."""

from __future__ import annotations

import argparse
import faulthandler
import os
import signal
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Final, NoReturn

from certdicom.errors import CertdicomError

_LONGEST_STOP_S: Final = 45.0
"""Beyond `node.grace_s`: what signing off from a busy database may take. Whatever still runs then is resumed at the next start."""

_PRIVATE: Final = 0o077
"""Umask: films, results, database and keys are the node's alone, whatever the folder's mode is."""

_SECONDS_A_WAIT: Final = 1.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="TOML", type=Path, help="configuration file (default: built-in defaults and environment variables)"
    )
    parser.add_argument("--print-config", action="store_true", help="write every setting with its value and help, and end")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.node.configuration import load_configuration, print_configuration

    configuration = load_configuration(arguments.config)
    if arguments.print_config:
        print(print_configuration(configuration), end="")
        return 0
    return serve(arguments.config, listens=True, debug=arguments.debug)


def serve(config: Path | None, *, listens: bool, debug: bool) -> NoReturn:
    """Run until SIGTERM or SIGINT, and end the process at once: deliveries that wait have threads of their own."""
    from certdicom.node.configuration import load_configuration
    from certdicom.node.logs import start_logging
    from certdicom.node.service import Service

    configuration = load_configuration(config)
    start_logging(configuration.log.level)
    os.umask(_PRIVATE)
    asked: SimpleQueue[int] = SimpleQueue()  # unlike an Event, it may be filled by a handler that interrupts whoever waits on it
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: asked.put(received))
    service = Service(configuration, listens=listens)
    code = 0
    try:
        service.start()
        _wait(asked)
        faulthandler.dump_traceback_later(configuration.node.grace_s + _LONGEST_STOP_S, exit=True)
        service.stop()
    except Exception as error:  # noqa: BLE001  # whatever it is, the other threads must not keep the process
        if debug:
            traceback.print_exc()
        known = isinstance(error, CertdicomError)
        code = error.exit_code if isinstance(error, CertdicomError) else CertdicomError.exit_code
        print(f"certdicom: {'' if known else f'internal error: {type(error).__name__}: '}{' '.join(str(error).split())}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _wait(asked: SimpleQueue[int]) -> None:
    """Return when a signal has come. In pieces, because one that comes as a wait begins would not end it."""
    while True:
        with suppress(Empty):
            asked.get(timeout=_SECONDS_A_WAIT)
            return
