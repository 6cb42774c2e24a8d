"""What an archive's answer to a sent object means for its delivery, and what is remembered of what was sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

Verdict = Literal["stored", "refused", "unreachable"]

DUPLICATE_SOP_INSTANCE: Final = 0x0111
_MEANINGS: Final = {
    0x0000: "success",
    0x0001: "requested optional attributes are not supported",
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    0x0107: "attribute list error",
    0x0110: "processing failure",
    0x0111: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0115: "invalid argument value",
    0x0116: "attribute value out of range",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class and instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0124: "not authorised",
    0x0210: "duplicate invocation",
    0x0211: "unrecognised operation",
    0x0212: "mistyped argument",
    0x0213: "resource limitation",
    0xA700: "out of resources",
    0xA900: "data set does not match SOP class",
    0xB000: "coercion of data elements",
    0xB006: "elements discarded",
    0xB007: "data set does not match SOP class, stored all the same",
    0xC000: "cannot understand",
    0xFE00: "cancelled",
}
"""PS3.7 annex C and PS3.4 table B.2-1, by family: the last two digits of A7xx and the last three of Cxxx are the peer's own."""

_WARNINGS: Final = frozenset({0x0001, 0x0107, 0x0116})
"""Of PS3.7 annex C: stored, and there is something to say about it. All of 0xB000 to 0xBFFF are, too."""

_LATER: Final = frozenset({0x0110, 0x0124, 0x0210, 0x0213, 0xFE00})
"""What passes, or people mend on the other side: tried again like an archive that is down."""


@dataclass(frozen=True)
class StoreOutcome:
    """`stored`: the archive has it; `refused`: it does not want it; `unreachable`: try again later.

    `lost`: no answer came, so that nobody knows what became of it.
    """

    verdict: Verdict
    reason: str = ""
    lost: bool = False


class Notes(Protocol):
    """Remembers which bytes went out without a known end."""

    def begin(self, path: Path) -> bool:
        """Called before a file's first byte goes out; whether the same bytes went out before, with a good end or an unknown one."""

    def forget(self, path: Path) -> None:
        """Called when the other side has said that it did not take the file."""


def classify(status: int | None, *, sent_before: bool = False) -> StoreOutcome:
    """What a C-STORE status means for the delivery; None: the association broke before an answer came.

    `sent_before`: an earlier attempt sent the same bytes, and was answered well or not at all.
    """
    if status is None:
        return StoreOutcome("unreachable", "no answer: the association broke or timed out", lost=True)
    if status == 0x0000:
        return StoreOutcome("stored")
    text = f"status 0x{status:04X}, {meaning(status)}"
    if status == DUPLICATE_SOP_INSTANCE:
        # Nobody but us makes this UID. After an attempt whose answer was lost it is its bytes that the archive has; otherwise it
        # has other contents under our UID, from a node whose spool was lost: no proof that this result is there.
        return (
            StoreOutcome("stored", text)
            if sent_before
            else StoreOutcome("refused", f"{text}: it has other contents under the UID of this result")
        )
    if status >> 12 == 0xB or status in _WARNINGS:
        return StoreOutcome("stored", f"warning: {text}")
    if status >> 8 == 0xA7 or status in _LATER:
        return StoreOutcome("unreachable", text)
    return StoreOutcome("refused", text)


def meaning(status: int) -> str:
    """A status in words."""
    families = (status & 0xFF00, status & 0xF000) if status >= 0xA000 else ()
    return next((_MEANINGS[key] for key in (status, *families) if key in _MEANINGS), "not in the Standard")
