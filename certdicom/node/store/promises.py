"""Storage commitment that senders ask us for: whom we still owe a report, and which films we have promised to keep."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import sqlalchemy as sa

from certdicom.node.store.records import ROUTINE
from certdicom.node.store.steps import Steps
from certdicom.node.store.tables import JOBS, PROMISES, STEPS


@dataclass(frozen=True)
class Promise:
    """A request for commitment. `requestor`: its AE title; `address`: where it takes reports, host:port, "" if nobody has said so."""

    promise_id: str
    transaction_uid: str
    requestor: str
    address: str


class Promises:
    """The table of requests that were not answered yet. Which instances they are about stands in the spool: the database has no UIDs."""

    def __init__(self, engine: sa.Engine, steps: Steps) -> None:
        self._engine, self._steps = engine, steps

    def enter(self, promise_id: str, transaction_uid: str, *, requestor: str, address: str, in_s: float) -> None:
        """Owe a report in so many seconds."""
        row = {"promise_id": promise_id, "transaction_uid": transaction_uid, "requestor": requestor, "address": address}
        with self._engine.begin() as connection:
            connection.execute(sa.insert(PROMISES).values(**row, asked_at=time.time()))
            self._steps.owe(connection, promise_id, "report", "", priority=ROUTINE, in_s=in_s)

    def promise(self, promise_id: str) -> Promise | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(PROMISES).where(PROMISES.c.promise_id == promise_id)).one_or_none()
        return None if row is None else Promise(row.promise_id, row.transaction_uid, row.requestor, row.address)

    def keep(self, job_id: str) -> None:
        """Note that a sender relies on us for the film of a job: it is not removed any more, but by `spool.keep_committed_days`."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.job_id == job_id).values(promised=True))

    def unless_kept(self, job_id: str, remove: Callable[[], None]) -> None:
        """Remove something of a job, unless a sender relies on us for it; nobody can begin to meanwhile."""
        mine = sa.update(JOBS).where(JOBS.c.job_id == job_id, ~JOBS.c.promised).values(promised=False).returning(JOBS.c.job_id)
        with self._engine.begin() as connection:
            if connection.execute(mine).one_or_none() is not None:
                remove()

    def forget(self, promise_id: str) -> None:
        """Forget a request and its step."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(PROMISES).where(PROMISES.c.promise_id == promise_id))
            connection.execute(sa.delete(STEPS).where(STEPS.c.job_id == promise_id))
