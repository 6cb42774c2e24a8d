"""A job queue in memory: for tests, which need neither a database nor a second process."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from certdicom.node.work.jobs.port import Attempt, Queue, Standing


@dataclass
class _Waiting:
    pool: ThreadPoolExecutor | None
    runs: list[tuple[int, int, str]] = field(default_factory=list)


class MemoryQueue:
    """Keeps the contract of `JobQueue` within one process's life. `errors` collects what attempts raised, which they must not."""

    def __init__(self) -> None:
        self.errors: list[BaseException] = []
        self._attempt: Attempt | None = None
        self._queues: dict[str, _Waiting] = {}
        self._standings: dict[str, Standing] = {}
        self._ended: dict[str, float] = {}
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._closed = False

    def start(self, queues: Sequence[Queue], attempt: Attempt) -> None:
        self._attempt = attempt
        for queue in queues:
            self._queues[queue.name] = _Waiting(ThreadPoolExecutor(queue.at_once, thread_name_prefix=queue.name) if queue.at_once else None)

    def enqueue(self, queue: str, run_id: str, priority: int) -> None:
        waiting = self._queues[queue]
        with self._lock:
            if run_id in self._standings or self._closed:
                return
            self._standings[run_id] = Standing("queued")
            heapq.heappush(waiting.runs, (priority, next(self._numbers), run_id))
            if waiting.pool is not None:
                waiting.pool.submit(self._run_next, waiting)

    def standings(self, run_ids: Iterable[str]) -> dict[str, Standing]:
        with self._lock:
            return {run_id: self._standings[run_id] for run_id in run_ids if run_id in self._standings}

    def give_up(self, run_id: str) -> None:
        with self._lock:
            self._standings[run_id] = Standing("ended")

    def forget(self, before: float) -> int:
        with self._lock:
            old = [run_id for run_id, moment in self._ended.items() if moment < before]
            for run_id in old:
                del self._ended[run_id], self._standings[run_id]
            return len(old)

    def close(self) -> None:
        with self._lock:
            self._closed = True
        for waiting in self._queues.values():
            if waiting.pool is not None:
                waiting.pool.shutdown(wait=False, cancel_futures=True)

    def _run_next(self, waiting: _Waiting) -> None:
        with self._lock:
            _, _, run_id = heapq.heappop(waiting.runs)
            attempt = None if self._closed or self._standings[run_id].state == "ended" else self._attempt
            self._standings[run_id] = Standing("running")
        try:
            if attempt is not None:
                attempt(run_id)
        except BaseException as error:
            self.errors.append(error)
            raise
        finally:
            with self._lock:
                self._standings[run_id], self._ended[run_id] = Standing("ended"), time.time()
