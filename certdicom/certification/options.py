"""What a certificate is asked for, as people write it: one help line and one way of writing for every command and the node."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType

from certdicom.errors import UsageError

HELP = MappingProxyType(
    {
        "sigma": "noise on the [0, 1] model grid; R = sigma·Φ⁻¹(tau)",
        "tau": "share of draws that a certified decision exceeds",
        "n0": "draws that select the decisions",
        "n": "draws that test them",
        "looks": "instead of n: test at each of these numbers of draws, on an equal share of alpha, until done",
        "abstain_target": "with looks: enough once at most this share of the grid's pixels abstains",
        "fallback": "certify also that any of these structures is there, where no single one can be",
        "family": "alpha bounds the chance of any wrong certificate (holm), or of K or more, K - 1 allowed: a weaker claim",
        "alpha": "chance of any wrong certificate in an image; see family",
    }
)
"""What each option is, by its name."""

HOLM = "holm"


def looks_from(text: str) -> tuple[int, ...]:
    """`100,300,1000` as numbers; none for an empty text. UsageError for anything else."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"looks: {text!r} is no list of whole numbers such as 100,300,1000") from error


def allowed_from(family: str) -> int:
    """How k-FWER's k is written: `holm` is 1, `k-fwer:K` is K. UsageError for anything else."""
    name, _, k = family.partition(":")
    if family == HOLM:
        return 1
    if name != "k-fwer" or not (k.isascii() and k.isdecimal()) or int(k) < 2:
        raise UsageError(f"family: {family!r} is neither holm nor k-fwer:K with a whole K of at least 2")
    return int(k)


def unions_from(groups: Sequence[str], *, labels: Sequence[str], bundle: str) -> tuple[tuple[int, ...], ...]:
    """Each group, `lungs,heart`, as indices of `labels`, rising, so that the order of the words makes no other result.

    UsageError for a structure that the bundle has not.
    """
    return tuple(_indices(group, labels=labels, bundle=bundle) for group in groups)


def _indices(group: str, *, labels: Sequence[str], bundle: str) -> tuple[int, ...]:
    wanted = [name.strip() for name in group.split(",")]
    unknown = [name for name in wanted if name not in labels]
    if unknown:
        raise UsageError(f"fallback {group}: bundle {bundle} has no structure {unknown[0]!r}; it has {', '.join(labels)}")
    return tuple(sorted(labels.index(name) for name in wanted))
