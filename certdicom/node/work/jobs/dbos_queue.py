"""The job queue DBOS behind the port: a SQLite file on one host, PostgreSQL for several. One attempt is one workflow without steps.

What was seen when it was tried, and what the node rests on: slots are counted by the threads of a process, so that a run whose thread died
frees its slot; a workflow that could not write its checkpoint stays PENDING for ever or ends as ERROR, and nobody is told; an id that was
ever used runs nothing, without an error; at launch a process gets back the PENDING workflows of its own executor id. The application
version is set by hand, because DBOS otherwise derives it from the source code and strands the queue after an upgrade.
"""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from dbos import DBOS, SetEnqueueOptions, SetWorkflowID

from certdicom.node.work.jobs.port import Attempt, Queue, Standing

_NAME: Final = "certdicom.attempt"
_FIRST_EDITION: Final = "certdicom.task"
"""The workflows of certdicom 0.1.0: what they were to do stands in the steps now."""

_STATES: Final = {"ENQUEUED": "queued", "DELAYED": "queued", "PENDING": "running"}
_ENDED: Final = ("SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED")
_AT_ONCE: Final = 500

_VERSION: Final = "certdicom-attempts-1"


class DbosQueue:
    """`executor_id` names this process and must be the same after a restart, and no other living process's."""

    def __init__(self, *, database_url: str, executor_id: str, poll_s: float) -> None:
        self._database_url, self._executor_id, self._poll_s = database_url, executor_id, poll_s
        self._run: Callable[[str], None] | None = None
        self._closed = threading.Event()

    def start(self, queues: Sequence[Queue], attempt: Attempt) -> None:
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

        def run(run_id: str) -> None:
            if not self._closed.is_set():
                attempt(run_id)

        self._run = DBOS.workflow(name=_NAME, max_recovery_attempts=1000)(run)
        DBOS.listen_queues([queue.name for queue in queues if queue.at_once])
        DBOS.launch()
        _quieten()
        for queue in queues:
            limit, policy = (queue.at_once, "always_update") if queue.at_once else (1, "never_update")
            DBOS.register_queue(queue.name, worker_concurrency=limit, polling_interval_sec=self._poll_s, on_conflict=policy)  # type: ignore[arg-type]
        self._delete(name=_FIRST_EDITION)

    def enqueue(self, queue: str, run_id: str, priority: int) -> None:
        if self._run is None:
            raise RuntimeError("the job queue was not started")
        with SetWorkflowID(run_id), SetEnqueueOptions(priority=priority + 1):  # DBOS counts priorities from 1
            DBOS.enqueue_workflow(queue, self._run, run_id)

    def standings(self, run_ids: Iterable[str]) -> dict[str, Standing]:
        ids, found = list(run_ids), {}
        for start in range(0, len(ids), _AT_ONCE):
            for row in DBOS.list_workflows(workflow_ids=ids[start : start + _AT_ONCE], load_input=False, load_output=False):
                found[row.workflow_id] = Standing(_STATES.get(row.status, "ended"), row.executor_id or "")  # type: ignore[arg-type]
        return found

    def give_up(self, run_id: str) -> None:
        DBOS.cancel_workflow(run_id)

    def forget(self, before: float) -> int:
        moment = dt.datetime.fromtimestamp(before, dt.UTC).isoformat()
        return self._delete(status=list(_ENDED), name=_NAME, end_time=moment)

    def close(self) -> None:
        self._closed.set()

    def _delete(self, **which: Any) -> int:
        count = 0
        while found := DBOS.list_workflows(**which, limit=_AT_ONCE, load_input=False, load_output=False):
            DBOS.delete_workflows([row.workflow_id for row in found])
            count += len(found)
        return count


def _quieten() -> None:
    """Let the job queue's errors go where ours go, instead of to a handler of its own."""
    logger = logging.getLogger("dbos")
    logger.handlers.clear()
    logger.propagate = True
    logger.setLevel(logging.ERROR)
