"""The progress bar over the draws, on standard error."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from certdicom.certification.sampling import Progress


@contextmanager
def progress_bar(title: str, *, quiet: bool) -> Iterator[Progress | None]:
    """A callback (done, total) that moves a bar with the time left; None when `quiet`."""
    if quiet:
        yield None
        return
    from rich import progress as rich_progress
    from rich.console import Console

    with rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.MofNCompleteColumn(),
        rich_progress.TextColumn("left"),
        rich_progress.TimeRemainingColumn(),
        console=Console(stderr=True),
    ) as bar:
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
