"""`certdicom selftest`: run it after an install or an upgrade."""

from __future__ import annotations

import argparse

from certdicom.cli.computing_options import add_computing_options, computing_fields
from certdicom.models.bundle import DEFAULT_BUNDLE, load_bundle
from certdicom.progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", default=DEFAULT_BUNDLE, metavar="NAME|FOLDER", help="networks to test (default %(default)s)")
    add_computing_options(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(arguments: argparse.Namespace) -> int:
    from certdicom.pipeline import Computation
    from certdicom.selftest import run_selftest

    failed = 0
    with progress_bar("synthetic film", quiet=arguments.quiet) as progress:
        checks = list(run_selftest(load_bundle(arguments.bundle), Computation(**computing_fields(arguments)), progress=progress))
    for check in checks:
        print(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.detail}")
        failed += not check.passed
    print("self-test passed" if not failed else f"self-test FAILED: {failed} of {len(checks)} checks; do not use this installation")
    return 5 if failed else 0
