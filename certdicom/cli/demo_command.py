"""`certdicom demo`: modality, node, archive and viewer on this machine, from a film to its picture in a viewer."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from certdicom.errors import UsageError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("films", nargs="*", metavar="FILE", type=Path, help="films to send instead of the demonstration's own")
    parser.add_argument("--open", action="store_true", help="open the first result in a browser")
    parser.add_argument(
        "--exit-after", metavar="S", type=float, help="end so many seconds after the results are there (default: at Ctrl-C)"
    )
    parser.add_argument(
        "--folder", metavar="DIR", type=Path, help="work in this folder and leave everything there (default: a temporary one)"
    )
    parser.add_argument("--ohif", metavar="DIR", type=Path, help="a built OHIF, the dist/ of npm's @ohif/app (default: build/ohif/dist)")
    parser.add_argument("--no-orthanc", action="store_true", help="an archive that is a folder, also where Orthanc is installed")
    parser.add_argument("--bundle", metavar="NAME|FOLDER", help="networks to use")
    parser.add_argument("--n", type=int, help="draws that test the decisions")
    parser.add_argument("--accept-any", action="store_true", help="certify also what is no frontal chest film")


def run(arguments: argparse.Namespace) -> int:
    from rich.console import Console

    from certdicom.demo.show import Demo, show

    if arguments.exit_after is not None and arguments.exit_after < 0:
        raise UsageError(f"--exit-after must be 0 or more seconds, not {arguments.exit_after:g}")
    if arguments.ohif is not None and not (arguments.ohif / "index.html").is_file():
        raise UsageError(f"--ohif {arguments.ohif} holds no index.html; name the dist/ folder of a built OHIF")
    settings = {}
    if arguments.bundle is not None:
        settings["CERTDICOM_CERTIFICATE_BUNDLE"] = str(arguments.bundle)
    if arguments.n is not None:
        settings["CERTDICOM_CERTIFICATE_N"] = str(arguments.n)
    if arguments.accept_any:
        settings["CERTDICOM_CERTIFICATE_ACCEPT_ANY"] = "true"
    demo = Demo(
        films=arguments.films,
        ohif=arguments.ohif,
        orthanc=not arguments.no_orthanc,
        settings=settings,
        folder=arguments.folder,
        opens=arguments.open,
        exit_after=arguments.exit_after,
    )
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return show(demo, Console(file=sys.stdout, highlight=False))
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: object) -> None:
    """A service manager's way to end us cleans up as Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt
