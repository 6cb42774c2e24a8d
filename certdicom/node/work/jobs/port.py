"""What the node asks of a job queue: to run attempts, at most so many at a time, and to say what became of them.

What is owed stands in the ledger's steps. A job queue may lose runs, repeat them or run them late: an attempt begins only where its step
still names it, and a step whose run is gone is handed over again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

Attempt = Callable[[str], None]
"""Makes the attempt that a run id stands for. It raises nothing."""


@dataclass(frozen=True)
class Queue:
    """Runs of one kind: `at_once` of them at a time in a process; 0 means that this process only adds to it."""

    name: str
    at_once: int


@dataclass(frozen=True)
class Standing:
    """What the job queue knows of a run: `executor_id` is the process that has it, where it is running."""

    state: Literal["queued", "running", "ended"]
    executor_id: str = ""


class JobQueue(Protocol):
    """Runs what is enqueued on whichever host is alive."""

    def start(self, queues: Sequence[Queue], attempt: Attempt) -> None:
        """Begin to run what is queued."""

    def enqueue(self, queue: str, run_id: str, priority: int) -> None:
        """Add a run; of those that wait, the one with the lowest `priority` (from 0) is first."""

    def standings(self, run_ids: Iterable[str]) -> dict[str, Standing]:
        """What is known of these runs; one that is not known is left out."""

    def give_up(self, run_id: str) -> None:
        """Let a run that was lost not come back."""

    def forget(self, before: float) -> int:
        """Forget runs that ended before a moment (seconds since 1970); returns how many."""

    def close(self) -> None:
        """Begin nothing new; what runs goes on."""
