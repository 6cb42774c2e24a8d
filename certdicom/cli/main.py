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

from certdicom.cli.parser import CommandParser, did_you_mean, verbs_of, with_window_joined
from certdicom.errors import CertdicomError, UsageError, one_line
from certdicom.extras import extra_with, how_to_get
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


_GLOBAL_OPTIONS = ("-h", "--help", "--version")


def build_parser(command: str | None = None) -> argparse.ArgumentParser:
    """The parser; only the named command's arguments are filled in (all commands' when None), which keeps start-up short."""
    parser = CommandParser(
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
            for verb in verbs_of(child).values():  # people write it at the end
                verb.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
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
    words = with_window_joined(_of_today(words))
    if words[0] not in COMMANDS and words[0] not in _GLOBAL_OPTIONS:
        if _is_misspelt(words[0]):
            known = f"{did_you_mean(words[0], list(COMMANDS)) or ': certdicom --help lists the commands'}"
            print(f"certdicom: there is no command and no file {words[0]!r}{known}", file=sys.stderr)
            return 2
        words.insert(0, "certify")
    try:
        arguments = build_parser(words[0]).parse_args(words)
    except SystemExit as stop:  # argparse has said what is wrong
        return stop.code if isinstance(stop.code, int) else 2
    return _run(arguments)


def _is_misspelt(word: str) -> bool:
    """Whether a first word looks like a command, and not like an option or the path of a film."""
    return word.isidentifier() and not os.path.lexists(word)


def _run(arguments: argparse.Namespace) -> int:
    """Run the command; an error becomes a line and an exit code."""
    try:
        code = int(import_module(f"certdicom.cli.{arguments.command}_command").run(arguments))
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read what is printed has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("certdicom: interrupted; nothing half-written was left", file=sys.stderr)
        return 130
    except Exception as error:  # noqa: BLE001  # the last line of defence: one line and an exit code
        if arguments.debug:
            traceback.print_exc()
        line, code = _told(error, command=arguments.command)
        print(f"certdicom: {line}", file=sys.stderr)
    return code


def _told(error: Exception, *, command: str) -> tuple[str, int]:
    """What is said of an error, and the exit code."""
    if isinstance(error, CertdicomError):
        return one_line(error), error.exit_code
    if isinstance(error, ModuleNotFoundError) and extra_with(missing := error.name or ""):
        return f"{command} needs {missing}, which is not installed: {how_to_get(missing)}", UsageError.exit_code
    defect = f"internal error: {type(error).__name__}: {one_line(error)}; run again with --debug and report what it prints"
    return defect, CertdicomError.exit_code


def run() -> None:
    """Console script."""
    if "_ARGCOMPLETE" in os.environ:
        from certdicom.cli.completion import complete

        complete(build_parser(), commands=COMMANDS)
    sys.exit(main())


if __name__ == "__main__":
    run()
