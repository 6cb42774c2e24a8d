"""Progress on standard error: a bar over the draws, or films with what is being done to each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from certdicom.certification.sampling import Progress


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Progress | None]:
    """A callback (done, total) that moves a bar with the time left; None when `quiet`."""
    if quiet:
        yield None
        return
    with _bars() as bar:
        task = bar.add_task(title, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def moved(progress: Progress | bool | None) -> Iterator[Progress | None]:
    """What a `progress` argument asks for: True for a bar, a function as it is, otherwise nothing."""
    if isinstance(progress, bool):
        with progress_bar("certifying", quiet=not progress) as bar:
            yield bar
    else:
        yield progress


_PHASES = {"read": "reading", "networks": "loading networks", "grid": "fitting to the grid", "waiting": "waiting", "draws": "certifying"}


def in_words(stage: str) -> str:
    """What is done to a film in that stage of a `Stopwatch`."""
    return _PHASES.get(stage, "writing")


class FilmLine(Protocol):
    """What is shown of one film: which phase it is in, how many draws of how many are done, and that it is done with."""

    def phase(self, name: str) -> None: ...
    def draws(self, done: int, total: int) -> None: ...
    def end(self) -> None: ...


class NoLine:
    """A film of which nothing is shown."""

    def phase(self, name: str) -> None: ...
    def draws(self, done: int, total: int) -> None: ...
    def end(self) -> None: ...


class FilmsProgress:
    """Films on standard error: how many are done, with the time left, and a line for each that is being worked on. A context manager.

    `films`: how many there are, None where nobody knows; with one, it has the only line; `quiet`: show nothing.
    """

    def __init__(self, *, films: int | None, quiet: bool) -> None:
        self._bars = None if quiet else _bars()
        self._films = films
        self._overall: TaskID | None = None
        self._done = 0

    def __enter__(self) -> Self:
        if self._bars is not None:
            self._bars.start()
            if self._films != 1:
                self._overall = self._bars.add_task("all films", total=self._films)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def film(self, name: str) -> FilmLine:
        """The line of a film whose work begins."""
        return _Line(self, self._bars, name)

    def passed(self) -> None:
        """One film more is done."""
        self._done += 1
        if self._bars is not None and self._overall is not None:
            self._bars.update(self._overall, completed=self._done)

    @property
    def keeps_lines(self) -> bool:
        """Whether a film's line stays when it is done."""
        return self._films == 1


class _Line:
    def __init__(self, films: FilmsProgress, bars: RichProgress | None, name: str) -> None:
        self._films, self._bars, self._name = films, bars, name
        self._task = None if bars is None else bars.add_task(f"{name}: starting", total=None)

    def phase(self, name: str) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, description=f"{self._name}: {name}")

    def draws(self, done: int, total: int) -> None:
        if self._bars is not None and self._task is not None:
            self._bars.update(self._task, completed=done, total=total)

    def end(self) -> None:
        if self._films.keeps_lines:
            self.phase("done")
        elif self._bars is not None and self._task is not None:
            self._bars.remove_task(self._task)


def _bars() -> RichProgress:
    from rich import progress
    from rich.console import Console

    return progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("left"),
        progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        speed_estimate_period=600,
    )
