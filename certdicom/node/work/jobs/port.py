"""What the node asks of a job queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")


class Run(Protocol):
    """One run of a task, as the task sees it. A task is called again from its beginning after an interruption."""

    def step(self, name: str, function: Callable[[], T]) -> T:
        """Do something and remember what it returned (JSON types); a later call of the same run returns that instead."""

    def sleep(self, seconds: float) -> None:
        """Wait; the time counts on while nobody runs."""


Task = Callable[[Run, str], None]
"""Does the work that an argument names. It must be idempotent: it may be repeated, in part or whole, at any time."""


@dataclass(frozen=True)
class Queue:
    """Runs of one task: `at_once` of them at a time in a process; 0 means that this process only adds to it."""

    name: str
    task: Task
    at_once: int


@dataclass(frozen=True)
class Orphan:
    """An unfinished run, and the process that had it."""

    run_id: str
    queue: str
    executor_id: str


class JobQueue(Protocol):
    """Runs tasks durably: what is enqueued is run to its end once, through restarts and on whichever host is alive."""

    def start(self, queues: Sequence[Queue]) -> None:
        """Begin to run what is queued, unfinished runs of this process's former life included."""

    def enqueue(self, queue: str, run_id: str, argument: str) -> None:
        """Add a run; nothing happens when `run_id` was added before, whatever became of it."""

    def unfinished(self) -> list[Orphan]:
        """All runs that some process has begun and not ended."""

    def take_over(self, orphan: Orphan) -> None:
        """Give a run of a dead process to whoever asks next."""

    def forget(self, before: float) -> int:
        """Forget ended runs that were added before a moment (seconds since 1970); returns how many. Their ids may run again."""

    def stop(self, grace_s: float) -> bool:
        """Begin nothing new and wait for running steps; False when some did not end in time. They are repeated at the next start."""
