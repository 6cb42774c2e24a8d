"""`certdicom node`: receive films, certify them, return the results to the archive."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from pathlib import Path


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
    return serve(arguments.config, listens=True)


def serve(config: Path | None, *, listens: bool) -> int:
    """Run until SIGTERM or SIGINT. Does not return: the process ends at once, because sleeping deliveries have threads of their own."""
    from certdicom.node.configuration import load_configuration
    from certdicom.node.logs import start_logging
    from certdicom.node.service import Service

    configuration = load_configuration(config)
    start_logging(configuration.text("log.level"))
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    service = Service(configuration, listens=listens)
    try:
        service.start()
        asked.wait()
    except BaseException as error:
        _leave(service, error)
        raise
    service.stop()
    _end(0)
    return 0


def _leave(service: object, error: BaseException) -> None:
    from certdicom.errors import CertdicomError

    del service
    if isinstance(error, CertdicomError):
        print(f"certdicom: {' '.join(str(error).split())}", file=sys.stderr)
        _end(error.exit_code)


def _end(code: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
