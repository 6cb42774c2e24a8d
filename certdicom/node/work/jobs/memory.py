"""A job queue in memory: for tests, which need neither a database nor a second process."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from certdicom.node.work.jobs.port import Orphan, Queue

T = TypeVar("T")


class _Stopped(BaseException):
    """Unwinds a task when the job queue stops; no task catches it."""


@dataclass
class _Waiting:
    spec: Queue
    pool: ThreadPoolExecutor | None
    before_start: deque[tuple[str, str]] = field(default_factory=deque)


class MemoryQueue:
    """Keeps the contract of `JobQueue` within one process's life. `errors` collects what tasks raised."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._queues: dict[str, _Waiting] = {}
        self._known: set[str] = set()
        self._ended: dict[str, float] = {}
        self._lock = threading.Lock()
        self._idle = threading.Condition(self._lock)
        self._busy = 0
        self._stopping = threading.Event()

    def start(self, queues: Sequence[Queue]) -> None:
        for spec in queues:
            pool = ThreadPoolExecutor(spec.at_once, thread_name_prefix=spec.name) if spec.at_once else None
            self._queues[spec.name] = _Waiting(spec, pool)

    def enqueue(self, queue: str, run_id: str, argument: str) -> None:
        with self._lock:
            if run_id in self._known or self._stopping.is_set():
                return
            self._known.add(run_id)
        waiting = self._queues[queue]
        if waiting.pool is not None:
            waiting.pool.submit(self._run, waiting.spec, run_id, argument)

    def unfinished(self) -> list[Orphan]:
        return []

    def take_over(self, orphan: Orphan) -> None:
        raise NotImplementedError("a job queue in memory has no other processes")

    def forget(self, before: float) -> int:
        with self._lock:
            old = {run_id for run_id, moment in self._ended.items() if moment < before}
            self._known -= old
            self._ended = {run_id: moment for run_id, moment in self._ended.items() if run_id not in old}
            return len(old)

    def stop(self, grace_s: float) -> bool:
        self._stopping.set()
        with self._idle:
            finished = self._idle.wait_for(lambda: not self._busy, timeout=grace_s)
        for waiting in self._queues.values():
            if waiting.pool is not None:
                waiting.pool.shutdown(wait=finished, cancel_futures=True)
        return finished

    # Run

    def step(self, name: str, function: Callable[[], T]) -> T:
        if self._stopping.is_set():
            raise _Stopped(name)
        with self._lock:
            self._busy += 1
        try:
            return function()
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def sleep(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        if self._stopping.wait(max(0.0, deadline - time.monotonic())):
            raise _Stopped

    def _run(self, spec: Queue, run_id: str, argument: str) -> None:
        try:
            spec.task(self, argument)
            with self._lock:
                self._ended[run_id] = time.time()
        except _Stopped:
            pass
        except BaseException as error:
            self.errors.append(error)
            raise
