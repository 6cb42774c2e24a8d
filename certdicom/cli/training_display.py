"""What a training shows on standard error from its first step on: loss, rate, time left, and the scores of each validation."""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

if TYPE_CHECKING:
    from torch import Tensor

    from certdicom.research.training.loop import Moment

_SECONDS_BETWEEN_LINES = 30.0
"""Where standard error is a file."""

_SECONDS_BETWEEN_MOVES = 0.2
"""Of the bar."""

_RECENT = 50
"""The loss is shown as the mean of so many steps, and the rate is theirs."""


class TrainingDisplay:
    """A bar on a terminal; in a file a line at the first step, every half minute, and at every validation. A context manager.

    `title`: what is trained, and on what; `steps`: how many there are at most.
    """

    def __init__(self, title: str, *, steps: int, quiet: bool = False) -> None:
        self._console = Console(stderr=True, highlight=False, quiet=quiet, soft_wrap=True)
        self._title, self._steps = title, steps
        self._recent: deque[tuple[float, Tensor]] = deque(maxlen=_RECENT)
        self._told = -_SECONDS_BETWEEN_LINES
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.fields[told]}"))
        self._bar = Progress(*columns, console=self._console) if sys.stderr.isatty() and not quiet else None
        self._task = None if self._bar is None else self._bar.add_task(title, total=1.0, told="")

    def say(self, text: str) -> None:
        """A line of its own."""
        self._console.print(f"{self._title}: {text}", markup=False)

    def reading(self) -> AbstractContextManager[object]:
        """Say, on a terminal and while it lasts, that the images are read."""
        text = f"{self._title}: reading the images"
        return nullcontext() if self._bar is None else self._console.status(text)

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, moment: Moment) -> None:
        """One step more."""
        now = time.monotonic()
        self._recent.append((now, moment.loss))
        between = _SECONDS_BETWEEN_LINES if self._bar is None else _SECONDS_BETWEEN_MOVES
        if now - self._told > between or moment.progress >= 1:  # a line needs the losses, for which a GPU must be waited for
            told = self._line(moment)
            if self._bar is not None and self._task is not None:
                self._bar.update(self._task, completed=moment.progress, told=told)
            else:
                self.say(told)
            self._told = now
        if moment.columns:
            self.say(f"step {moment.step:,}: " + ", ".join(f"{name} {value:.4g}" for name, value in moment.columns.items()))
        elif moment.saved:
            self.say(f"step {moment.step:,}: saved, to go on from with --resume")

    def _line(self, moment: Moment) -> str:
        parts = [f"step {moment.step:,} of {self._steps:,}", f"loss {float(sum(loss for _, loss in self._recent)) / len(self._recent):.4g}"]
        span = self._recent[-1][0] - self._recent[0][0]
        if span > 0:
            parts.append(f"{(len(self._recent) - 1) / span:.3g} steps/s")
        if moment.progress > 0:
            parts.append(f"{_time(moment.seconds / moment.progress - moment.seconds)} left")
        return ", ".join(parts)


def _time(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}"
