"""Which window an image is certified under: asked for by request and bundle, and never chosen by pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from certdicom.errors import UsageError

Kind = Literal["header-or-displayed", "displayed", "given"]


@dataclass(frozen=True)
class Moments:
    """What an image has under its displayed window: `mean` and `deviation`, constants of a bundle. UsageError unless an image can."""

    mean: float = 0.53
    deviation: float = 0.25

    def __post_init__(self) -> None:
        if not (0 < self.mean < 1 and 0 < self.deviation**2 < self.mean * (1 - self.mean)):
            raise UsageError(f"no picture in [0, 1] has mean {self.mean:g} and deviation {self.deviation:g}")

    @property
    def square(self) -> float:
        """The mean of the squares."""
        return self.mean**2 + self.deviation**2


@dataclass(frozen=True)
class WindowRule:
    """`kind`: the header's window where there is one and the displayed window elsewhere; the displayed one for all; or the one `given`.

    `given`: (lo, hi) in modality values, as viewers show them; `moments` of the displayed window. UsageError for a rule that means nothing.
    """

    kind: Kind = "header-or-displayed"
    given: tuple[float, float] | None = None
    moments: Moments = field(default_factory=Moments)

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise UsageError(f"the window must be one of {', '.join(get_args(Kind))}, not {self.kind!r}")
        if (self.kind == "given") != (self.given is not None):
            raise UsageError("a window is given by its two ends, and only then")
        if self.given is not None and not (self.given[0] < self.given[1] and all(map(math.isfinite, self.given))):
            raise UsageError(f"a window from {self.given[0]:g} to {self.given[1]:g} shows nothing: give the lower end first")

    @classmethod
    def read(cls, text: str, moments: Moments) -> WindowRule:
        """What people write: "LO HI" or "LO,HI", "displayed", "header-or-displayed". UsageError for anything else."""
        words = text.replace(",", " ").split()
        if words in (["displayed"], ["header-or-displayed"]):
            return cls("displayed" if words == ["displayed"] else "header-or-displayed", moments=moments)
        try:
            lo, hi = map(float, words)
        except ValueError as error:
            raise UsageError(f"the window must be LO HI, displayed or header-or-displayed, not {text!r}") from error
        return cls("given", (lo, hi), moments)
