"""The options of every command that certifies: what is tested, and how surely."""

from __future__ import annotations

import argparse

from certdicom.certification.options import HELP, looks_from
from certdicom.certification.parameters import SmoothingParameters

_DEFAULTS = SmoothingParameters()


def add_smoothing_arguments(group: argparse._ActionsContainer) -> None:
    """Everything of `SmoothingParameters` but sigma, of which some commands take several."""
    group.add_argument("--tau", type=float, default=_DEFAULTS.tau, help=f"{HELP['tau']} (default %(default)s)")
    group.add_argument("--n0", type=int, default=_DEFAULTS.n0, help=f"{HELP['n0']} (default %(default)s)")
    draws = group.add_mutually_exclusive_group()
    draws.add_argument("--n", type=int, help=f"{HELP['n']} (default {_DEFAULTS.n})")
    draws.add_argument("--looks", default="", metavar="N,N,…", help=HELP["looks"])
    group.add_argument(
        "--abstain-target",
        type=float,
        default=_DEFAULTS.abstain_target,
        metavar="SHARE",
        help=f"{HELP['abstain_target']} (default %(default)s)",
    )
    group.add_argument("--fallback", action="append", default=[], metavar="A,B,…", help=f"{HELP['fallback']} (may be repeated)")
    group.add_argument("--alpha", type=float, default=_DEFAULTS.alpha, help=f"{HELP['alpha']} (default %(default)s)")


def smoothing_parameters(arguments: argparse.Namespace, *, sigma: float, unions: tuple[tuple[int, ...], ...] = ()) -> SmoothingParameters:
    """What the options ask for at one noise level; `unions` are what --fallback means for a bundle. UsageError for a wrong value."""
    looks = looks_from(arguments.looks)
    n = looks[-1] if looks else arguments.n
    return SmoothingParameters(
        sigma=sigma,
        tau=arguments.tau,
        n0=arguments.n0,
        n=_DEFAULTS.n if n is None else n,
        alpha=arguments.alpha,
        looks=looks,
        abstain_target=arguments.abstain_target,
        unions=unions,
    )
