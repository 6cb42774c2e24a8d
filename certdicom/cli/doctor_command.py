"""`certdicom doctor`: whether a node can work, one line for each thing that it needs."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="TOML", type=Path, help="the node's configuration file")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Exit code 0 when nothing failed, else 2."""
    from certdicom.node.configuration import load_configuration
    from certdicom.node.doctor import examine

    failed = False
    for finding in examine(load_configuration(arguments.config)):
        failed |= finding.verdict == "fail"
        if arguments.json:
            print(json.dumps(asdict(finding)))
        else:
            print(f"{finding.verdict:<5} {finding.subject}: {finding.text}", flush=True)
    return 2 if failed else 0
