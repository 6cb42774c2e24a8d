"""`certdicom info FILE`: what a file is, whether it would be accepted, and why not."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("film", type=Path, metavar="FILE", help="a DICOM file")
    parser.add_argument("--json", action="store_true", help="machine-readable")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.imaging.describe import describe

    description = describe(arguments.film)
    if arguments.json:
        print(json.dumps(asdict(description), indent=2))
    else:
        for name, value in asdict(description).items():
            if name not in ("accepted", "reason"):
                print(f"{name.replace('_', ' '):28} {'not stated' if value in (None, '', ()) else value}")
        verdict = "yes, as far as the file tells; the picture is judged when it is certified" if description.accepted else "no"
        print(f"{'accepted':28} {verdict}")
        if description.reason:
            print(f"{'reason':28} {description.reason}")
    return 0 if description.accepted else 3
