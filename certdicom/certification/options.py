"""Parsing and help of the smoothing options, the same for every command and the node."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING

from certdicom.errors import UsageError

if TYPE_CHECKING:
    from certdicom.certification.certificate import Structure

HELP = MappingProxyType(
    {
        "sigma": "standard deviation of the noise, on images in [0, 1]; R = sigma·Φ⁻¹(tau)",
        "tau": "probability of agreement that a certified decision exceeds",
        "n0": "draws that select the decisions",
        "n": "draws that test them",
        "looks": "instead of n: test after each of these numbers of draws, with alpha split equally, until done",
        "abstain_target": "with looks: stop once no more than this share of the grid abstains",
        "fallback": "where none of these structures can be certified by itself, certify that one of them is present",
        "alpha": "probability of any wrong certificate in an image",
    }
)
"""What each option is, by its name."""


def looks_from(text: str) -> tuple[int, ...]:
    """`100,300,1000` as numbers; none for an empty text. UsageError for anything else."""
    try:
        return tuple(int(part) for part in text.split(",")) if text else ()
    except ValueError as error:
        raise UsageError(f"looks: {text!r} is no list of whole numbers such as 100,300,1000") from error


def unions_from(groups: Sequence[str], structures: Sequence[Structure], *, bundle: str) -> tuple[tuple[int, ...], ...]:
    """Each group, `lungs,heart`, as indices of `structures`, rising, so that the order of the words makes no other result.

    `bundle`: the name of the bundle whose structures they are. UsageError for one that it has not.
    """
    labels = [structure.label for structure in structures]
    unions = []
    for group in groups:
        wanted = [name.strip() for name in group.split(",")]
        unknown = [name for name in wanted if name not in labels]
        if unknown:
            raise UsageError(f"fallback {group.strip()}: bundle {bundle} has no structure {unknown[0]!r}; it has {', '.join(labels)}")
        unions.append(tuple(sorted(labels.index(name) for name in wanted)))
    return tuple(unions)
