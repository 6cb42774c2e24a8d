"""Entry point: picks the command, turns errors into one line and an exit code.

    certdicom FILE|FOLDER… -o OUT     the main job; the word "certify" may stand before it
    certdicom info|bundle|selftest|train …

Exit codes: 0 done · 2 wrong usage · 3 film refused · 4 output could not be written · 5 internal error · 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from certdicom.errors import CertdicomError, one_line
from certdicom.version import RESEARCH_USE, VERSION

COMMANDS = {
    "certify": "certify films and write DICOM SEG objects (the default command)",
    "info": "describe a file, and say whether it would be accepted",
    "bundle": "list, check and pack bundles: the networks, and all that must be known to use them",
    "selftest": "certify a synthetic film and compare with the known answer",
    "evaluate": "score bundles on images with reference masks: certified Dice, IoU, abstention",
    "demo": "run a node, an archive and a viewer on this machine, with films to look at",
    "reproduce": "reproduce the tables and the figure of Laousy et al. 2023 from the data sets and bundles at hand",
    "node": "receive films as a storage SCP, certify them, and return the results to the archive",
    "worker": "certify for a node, on another host",
    "queue": "list, show, retry or drop the films of a node",
    "doctor": "check what a node needs: peers, disk, bundle, database, clock, certificates",
    "train": "train denoisers and segmenters on images with masks",
}
"""Command → help line; the command `x` lives in `certdicom.cli.x_command` with add_arguments(parser) and run(arguments)."""


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; only the named command's arguments are filled in (all commands' when None), which keeps start-up short."""
    parser = argparse.ArgumentParser(
        prog="certdicom",
        description="Certified segmentation of radiographs: every pixel is either certified stable or openly marked abstain. "
        + RESEARCH_USE,
        epilog="Short form: certdicom film.dcm -o seg.dcm. Exit codes: 0 done, 2 wrong usage, 3 film refused, "
        "4 output could not be written, 5 internal error.",
    )
    parser.add_argument("--version", action="version", version=f"certdicom {VERSION}. {RESEARCH_USE}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, help_line in COMMANDS.items():
        child = subparsers.add_parser(name, help=help_line, description=f"{help_line[0].upper()}{help_line[1:]}. {RESEARCH_USE}")
        child.add_argument("--debug", action="store_true", help="show a traceback when something fails")
        if command in (None, name):
            import_module(f"certdicom.cli.{name}_command").add_arguments(child)
    return parser


def _of_today(words: list[str]) -> list[str]:
    """The command under its name of today: `bundles` is `bundle list`, and `train bundle` is `bundle pack`."""
    match words:
        case ["bundles", "--card", *rest]:
            return ["bundle", "card", *rest]
        case ["bundles", "--convert-adm", *rest]:
            return ["bundle", "convert-adm", *rest]
        case ["bundles", *rest]:
            return ["bundle", "list", *rest]
        case ["train", "bundle", *rest]:
            return ["bundle", "pack", *rest]
        case _:
            return words


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        build_parser().print_help()
        return 2
    words = _of_today(words)
    if words[0] not in COMMANDS and words[0] not in ("-h", "--help", "--version"):
        words.insert(0, "certify")
    try:
        arguments = build_parser(words[0]).parse_args(words)
    except SystemExit as stop:  # argparse has said what is wrong
        return stop.code if isinstance(stop.code, int) else 2
    return _run(arguments)


def _run(arguments: argparse.Namespace) -> int:
    """Run the command; an error becomes a line and an exit code."""
    try:
        return int(import_module(f"certdicom.cli.{arguments.command}_command").run(arguments))
    except CertdicomError as error:
        if arguments.debug:
            traceback.print_exc()
        print(f"certdicom: {one_line(error)}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("certdicom: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001  # the last line of defence: one line and exit code 5
        if arguments.debug:
            traceback.print_exc()
        print(
            f"certdicom: internal error: {type(error).__name__}: {one_line(error)}; run again with --debug and report what it prints",
            file=sys.stderr,
        )
        return 5


def run() -> None:
    """Console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()
