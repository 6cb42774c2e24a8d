"""What a reference mask shows: the names under which data sets file it, and the structure that it belongs to."""

from __future__ import annotations

import re
from collections.abc import Sequence

from certdicom.errors import UsageError

FOREGROUND = "foreground"
"""The structure of masks that name none; it stands for a bundle's only structure, whatever that is called."""

_PARTS = {
    "lungs": ("lung", "lungs", "left lung", "right lung", "lung left", "lung right"),
    "heart": ("heart", "cardiac silhouette"),
    "clavicles": ("clavicle", "clavicles", "left clavicle", "right clavicle", "clavicle left", "clavicle right"),
    "lesion": ("lesion", "skin lesion"),
    "polyp": ("polyp", "polyps"),
}
_STRUCTURE = {part: structure for structure, parts in _PARTS.items() for part in parts}


def structure_of(name: str) -> str:
    """The structure that a mask folder or a segment label belongs to: "left_clavicle" → "clavicles"; unknown names stay."""
    plain = re.sub(r"[\s_-]+", " ", name).strip().lower()
    return _STRUCTURE.get(plain, plain)


def match(wanted: Sequence[str], present: Sequence[str], *, where: str) -> dict[str, str]:
    """For each of a bundle's structures that a data set has, the data set's name of it.

    The only structure of one is matched with an unnamed foreground of the other. UsageError when nothing fits.
    """
    found = {label: structure_of(label) for label in wanted if structure_of(label) in present}
    if not found and len(wanted) == 1 and tuple(present) == (FOREGROUND,):
        found = {wanted[0]: FOREGROUND}
    if not present:
        raise UsageError(f"{where} holds images without masks: a denoiser can be trained on them, and nothing else be done with them")
    if not found:
        raise UsageError(f"{where} has masks of {', '.join(present)}, but {', '.join(wanted)} is wanted; choose another bundle or data set")
    return found
