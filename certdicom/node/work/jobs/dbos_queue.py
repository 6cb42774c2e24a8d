"""The job queue DBOS behind the port: a SQLite file on one host, PostgreSQL for several.

What was seen when it was tried, and what this adapter rests on: adding a workflow id twice runs it once; at launch a process
gets back the unfinished workflows of its own executor id; those of another executor stay until `resume_workflow`. The
application version is set by hand, because DBOS otherwise derives it from the source code and strands the queue after an upgrade.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from dbos import DBOS, SetWorkflowID

from certdicom.node.work.jobs.port import Orphan, Queue

T = TypeVar("T")

_ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_AT_ONCE: Final = 500

_VERSION: Final = "certdicom-tasks-1"
"""Changes when the sequence of steps of a task changes in a way that half-finished runs cannot follow."""


class DbosQueue:
    """`executor_id` names this process and must be the same after a restart, and no other living process's."""

    def __init__(self, *, database_url: str, executor_id: str, poll_s: float) -> None:
        self._database_url = database_url
        self._executor_id = executor_id
        self._poll_s = poll_s
        self._run: Callable[[str, str], None] | None = None
        self._tasks: dict[str, Queue] = {}
        self._busy = 0
        self._idle = threading.Condition()
        self._stopping = False

    def start(self, queues: Sequence[Queue]) -> None:
        self._tasks = {queue.name: queue for queue in queues}
        DBOS(
            config={
                "name": "certdicom",
                "system_database_url": self._database_url,
                "application_version": _VERSION,
                "executor_id": self._executor_id,
                "console_log_level": "ERROR",
                "log_level": "ERROR",
                "enable_otlp": False,
            }
        )
        # The job queue's own limit is far above ours (`jobs.max_attempts`), which also knows the reason.

        def run_task(queue: str, argument: str) -> None:
            try:
                self._tasks[queue].task(self, argument)
            except Exception as error:  # noqa: BLE001  # raised again, without its text
                # The job queue keeps what a task raises in its database and logs it: nothing that an exception quotes belongs there.
                raise RuntimeError(f"a task ended with {type(error).__name__}") from None

        self._run = DBOS.workflow(name="certdicom.task", max_recovery_attempts=1000)(run_task)
        DBOS.listen_queues([queue.name for queue in queues if queue.at_once])
        DBOS.launch()
        _quieten()
        for queue in queues:
            limit, policy = (queue.at_once, "always_update") if queue.at_once else (1, "never_update")
            DBOS.register_queue(queue.name, worker_concurrency=limit, polling_interval_sec=self._poll_s, on_conflict=policy)  # type: ignore[arg-type]

    def enqueue(self, queue: str, run_id: str, argument: str) -> None:
        if self._run is None:
            raise RuntimeError("the job queue was not started")
        with SetWorkflowID(run_id):
            DBOS.enqueue_workflow(queue, self._run, queue, argument)

    def unfinished(self) -> list[Orphan]:
        found = DBOS.list_workflows(status="PENDING", name="certdicom.task", load_input=False, load_output=False)
        return [Orphan(row.workflow_id, row.queue_name or "", row.executor_id or "") for row in found]

    def take_over(self, orphan: Orphan) -> None:
        DBOS.resume_workflow(orphan.run_id, queue_name=orphan.queue or None)

    def forget(self, before: float) -> int:
        moment = dt.datetime.fromtimestamp(before, dt.UTC).isoformat()
        count = 0
        while found := DBOS.list_workflows(
            status=list(_ENDED), name="certdicom.task", end_time=moment, limit=_AT_ONCE, load_input=False, load_output=False
        ):
            DBOS.delete_workflows([row.workflow_id for row in found])
            count += len(found)
        return count

    def stop(self, grace_s: float) -> bool:
        with self._idle:
            self._stopping = True
            return self._idle.wait_for(lambda: not self._busy, timeout=grace_s)

    # Run

    def step(self, name: str, function: Callable[[], T]) -> T:
        with self._idle:
            stopping = self._stopping
            self._busy += not stopping
        if stopping:
            # The run must stay unfinished, neither failed nor done: its thread waits for the end of the process.
            threading.Event().wait()
        try:
            return DBOS.run_step({"name": name}, function)
        finally:
            with self._idle:
                self._busy -= 1
                self._idle.notify_all()

    def sleep(self, seconds: float) -> None:
        DBOS.sleep(seconds)


def _quieten() -> None:
    """Let the job queue's errors go where ours go, instead of to a handler of its own."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.ERROR)
