"""`certdicom worker`: certify and deliver on another host, from the same PostgreSQL and the same shared folder as the node."""

from __future__ import annotations

import argparse
from pathlib import Path

from certdicom.cli.node_command import serve


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="TOML", type=Path, help="the node's configuration file (default: environment variables)")


def run(arguments: argparse.Namespace) -> int:
    return serve(arguments.config, listens=False, debug=arguments.debug)
