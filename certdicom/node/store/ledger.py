"""The ledger: what should happen to each film, and what did. People see the node through it.

Rows hold pseudonyms, states and reasons; no pixels, and nothing about a patient. A row is written before the job queue is
told, and marked afterwards: `outbox`: rows not yet enqueued when a process died.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from certdicom.errors import UsageError
from certdicom.node.store.database import insert_once
from certdicom.node.store.delivery_log import Commitments, Sendings
from certdicom.node.store.heartbeat import Heartbeat
from certdicom.node.store.records import JOB_STATES, Delivery, DeliveryState, Job, JobState, OutboxEntry, Result
from certdicom.node.store.tables import COMMITMENTS, DELIVERIES, JOBS, META, METADATA, SENDINGS

_PURGED_AT_ONCE: Final = 500
_RETRIED: Final[tuple[JobState, ...]] = ("failed", "ignored", "dropped")
_DROPPED: Final[tuple[JobState, ...]] = ("queued", "failed", "ignored")


class Ledger:
    """The tables of one database. Every method is one transaction; database errors (SQLAlchemyError) pass through."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.commitments, self.sendings, self.heartbeat = Commitments(engine), Sendings(engine), Heartbeat(engine)

    def prepare(self, *, spool: str) -> None:
        """Make the tables, and tie the database to its spool. UsageError when it belongs to another one."""
        try:
            METADATA.create_all(self._engine)
        except sa.exc.DatabaseError:
            # Two processes that start at the same moment may both make them; the second finds them there.
            METADATA.create_all(self._engine)
        with self._engine.begin() as connection:
            insert_once(connection, META, name="spool", value=spool)
            known = connection.execute(sa.select(META.c.value).where(META.c.name == "spool")).scalar_one()
        if known != spool:
            raise UsageError("node.state_dir is not the folder that this database's films are in; give all hosts the same shared folder")

    def ping(self) -> None:
        """Raise when the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    # films

    def enter(self, job_id: str, *, subject: str, sender: str, size: int, state: JobState = "queued", reason: str = "") -> bool:
        """Enter a film; False when its job is known already."""
        now = time.time()
        row = {"job_id": job_id, "subject": subject, "state": state, "reason": reason, "sender": sender, "size": size}
        fresh = {"enqueued": state != "queued", "generation": 1, "attempts": 0, "seg_sha256": "", "seconds": "{}"}
        with self._engine.begin() as connection:
            return insert_once(connection, JOBS, **row, **fresh, received_at=now, updated_at=now)

    def job(self, job_id: str) -> Job | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).one_or_none()
        return _job(row) if row else None

    def jobs(self, *, states: Sequence[JobState] = (), subject: str | None = None, limit: int = 100, offset: int = 0) -> list[Job]:
        """Jobs, the last changed first."""
        query = sa.select(JOBS).order_by(JOBS.c.updated_at.desc(), JOBS.c.job_id).limit(limit).offset(offset)
        if states:
            query = query.where(JOBS.c.state.in_(states))
        if subject is not None:
            query = query.where(JOBS.c.subject == subject)
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def beginning_with(self, text: str) -> list[Job]:
        """Jobs whose id begins with `text`."""
        with self._engine.connect() as connection:
            return [
                _job(row) for row in connection.execute(sa.select(JOBS).where(JOBS.c.job_id.startswith(text, autoescape=True)).limit(10))
            ]

    def counts(self) -> dict[JobState, int]:
        """Number of jobs in each state."""
        with self._engine.connect() as connection:
            found = {
                str(state): int(number)
                for state, number in connection.execute(sa.select(JOBS.c.state, sa.func.count()).group_by(JOBS.c.state))
            }
        return {state: found.get(state, 0) for state in JOB_STATES}

    def finished_since(self, moment: float) -> int:
        """How many jobs were done after `moment` (seconds since 1970)."""
        with self._engine.connect() as connection:
            query = sa.select(sa.func.count()).select_from(JOBS).where(JOBS.c.state == "done", JOBS.c.updated_at > moment)
            return int(connection.execute(query).scalar_one())

    def recent_abstain(self, number: int) -> list[float]:
        """Abstaining shares of the last `number` certificates."""
        query = sa.select(JOBS.c.abstain).where(JOBS.c.abstain.is_not(None)).order_by(JOBS.c.updated_at.desc()).limit(number)
        with self._engine.connect() as connection:
            return [float(value) for (value,) in connection.execute(query)]

    def begin(self, job_id: str) -> int:
        """Note that certifying starts; returns how many times it has been started without an end."""
        with self._engine.begin() as connection:
            connection.execute(_change(JOBS, job_id, state="certifying", attempts=JOBS.c.attempts + 1))
            return int(connection.execute(sa.select(JOBS.c.attempts).where(JOBS.c.job_id == job_id)).scalar_one())

    def forgive(self, job_id: str, reason: str) -> None:
        """Take the last start back: it came to nothing for a reason that is not the film's, such as a full disk."""
        with self._engine.begin() as connection:
            connection.execute(_change(JOBS, job_id, attempts=JOBS.c.attempts - 1, reason=reason))

    def move(self, job_id: str, state: JobState, reason: str = "") -> None:
        with self._engine.begin() as connection:
            connection.execute(_change(JOBS, job_id, state=state, reason=reason))

    def certified(self, job_id: str, result: Result, destinations: Sequence[str]) -> None:
        """Record the result, and a delivery to each destination; done at once when there is none."""
        now = time.time()
        with self._engine.begin() as connection:
            known = set(connection.execute(sa.select(DELIVERIES.c.destination).where(DELIVERIES.c.job_id == job_id)).scalars())
            for destination in destinations:
                if destination not in known:
                    connection.execute(
                        sa.insert(DELIVERIES).values(
                            job_id=job_id,
                            destination=destination,
                            state="queued",
                            reason="",
                            enqueued=False,
                            created_at=now,
                            updated_at=now,
                        )
                    )
            open_deliveries = bool(set(destinations) - known) or self._open_deliveries(connection, job_id) > 0
            connection.execute(
                _change(
                    JOBS,
                    job_id,
                    state="delivering" if open_deliveries else "done",
                    reason="" if destinations else "no destination is configured; the result stays in the spool",
                    attempts=0,
                    seg_sha256=result.seg_sha256,
                    abstain=result.abstain,
                    seconds=json.dumps(dict(result.seconds)),
                )
            )

    # deliveries

    def delivery(self, job_id: str, destination: str) -> Delivery | None:
        query = sa.select(DELIVERIES).where(DELIVERIES.c.job_id == job_id, DELIVERIES.c.destination == destination)
        with self._engine.connect() as connection:
            row = connection.execute(query).one_or_none()
        return _delivery(row) if row else None

    def deliveries(self, job_ids: Sequence[str]) -> list[Delivery]:
        with self._engine.connect() as connection:
            rows = connection.execute(sa.select(DELIVERIES).where(DELIVERIES.c.job_id.in_(job_ids)).order_by(DELIVERIES.c.destination))
            return [_delivery(row) for row in rows]

    def note_delivery(
        self, job_id: str, destination: str, state: DeliveryState, reason: str = "", *, attempts: int = 0, refusals: int = 0
    ) -> Delivery:
        """Change a delivery's state, adding to its attempts and refusals; settles the job with its last one."""
        with self._engine.begin() as connection:
            mine = (DELIVERIES.c.job_id == job_id) & (DELIVERIES.c.destination == destination)
            change = {"state": state, "reason": reason, "updated_at": time.time()}
            counts = {"attempts": DELIVERIES.c.attempts + attempts, "refusals": DELIVERIES.c.refusals + refusals}
            connection.execute(sa.update(DELIVERIES).where(mine).values(**change, **counts))
            if state == "done" and not self._open_deliveries(connection, job_id):
                connection.execute(_change(JOBS, job_id, state="done", reason=""))
            elif state == "failed":
                connection.execute(_change(JOBS, job_id, state="failed", reason=f"not delivered to {destination}: {reason}"))
            return _delivery(connection.execute(sa.select(DELIVERIES).where(mine)).one())

    def awaited(self) -> set[str]:
        """Destinations that deliveries wait for."""
        with self._engine.connect() as connection:
            query = sa.select(DELIVERIES.c.destination).where(DELIVERIES.c.state.not_in(("done", "failed"))).distinct()
            return set(connection.execute(query).scalars())

    def _open_deliveries(self, connection: sa.Connection, job_id: str) -> int:
        query = sa.select(sa.func.count()).select_from(DELIVERIES).where(DELIVERIES.c.job_id == job_id, DELIVERIES.c.state != "done")
        return int(connection.execute(query).scalar_one())

    # people

    def retry(self, job_id: str) -> Job:
        """Retry what failed or was not processed. UsageError when there is nothing to retry."""
        with self._engine.begin() as connection:
            job = _require(connection, job_id, _RETRIED, "started again")
            if job.seg_sha256:
                failed = (DELIVERIES.c.job_id == job_id) & (DELIVERIES.c.state == "failed")
                fresh = {"state": "queued", "reason": "", "enqueued": False, "refusals": 0, "created_at": time.time()}
                connection.execute(sa.update(DELIVERIES).where(failed).values(**fresh, generation=DELIVERIES.c.generation + 1))
                connection.execute(_change(JOBS, job_id, state="delivering", reason=""))
            else:
                connection.execute(
                    _change(JOBS, job_id, state="queued", reason="", enqueued=False, attempts=0, generation=JOBS.c.generation + 1)
                )
            return _read(connection, job_id)

    def drop(self, job_id: str) -> Job:
        """Give a job up. UsageError when it is running or finished."""
        with self._engine.begin() as connection:
            _require(connection, job_id, _DROPPED, "dropped")
            connection.execute(_change(JOBS, job_id, state="dropped", reason="dropped by hand"))
            return _read(connection, job_id)

    # what is past its time

    def settled(self, before: float) -> list[str]:
        """Ids of jobs that nothing more will happen to and that did not change since `before` (seconds since 1970)."""
        query = sa.select(JOBS.c.job_id).where(JOBS.c.state.in_(("done", "ignored", "dropped")), JOBS.c.updated_at < before)
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def purge(self, job_ids: Sequence[str]) -> None:
        """Forget jobs and all that was noted about them."""
        for start in range(0, len(job_ids), _PURGED_AT_ONCE):
            some = job_ids[start : start + _PURGED_AT_ONCE]
            with self._engine.begin() as connection:
                for table in (COMMITMENTS, SENDINGS, DELIVERIES, JOBS):
                    connection.execute(sa.delete(table).where(table.c.job_id.in_(some)))

    # the outbox

    def outbox(self) -> list[OutboxEntry]:
        """What is not enqueued yet."""
        jobs = sa.select(JOBS.c.job_id, JOBS.c.generation).where(~JOBS.c.enqueued, JOBS.c.state == "queued")
        deliveries = sa.select(DELIVERIES.c.job_id, DELIVERIES.c.generation, DELIVERIES.c.destination).where(~DELIVERIES.c.enqueued)
        with self._engine.connect() as connection:
            orders = [OutboxEntry(row.job_id, row.generation) for row in connection.execute(jobs)]
            return orders + [OutboxEntry(row.job_id, row.generation, row.destination) for row in connection.execute(deliveries)]

    def mark_enqueued(self, orders: Iterable[OutboxEntry]) -> None:
        with self._engine.begin() as connection:
            for order in orders:
                table = JOBS if order.destination is None else DELIVERIES
                mine = (table.c.job_id == order.job_id) & (table.c.generation == order.generation)
                if order.destination is not None:
                    mine &= DELIVERIES.c.destination == order.destination
                connection.execute(sa.update(table).where(mine).values(enqueued=True))


def _change(table: sa.Table, job_id: str, **values: Any) -> sa.Update:
    return sa.update(table).where(table.c.job_id == job_id).values(updated_at=time.time(), **values)


def _job(row: Any) -> Job:
    fields = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    return Job(**{**fields, "seconds": json.loads(row.seconds)})


def _delivery(row: Any) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__})


def _read(connection: sa.Connection, job_id: str) -> Job:
    row = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).one_or_none()
    if row is None:
        raise UsageError(f"there is no job {job_id}; certdicom queue ls lists them")
    return _job(row)


def _require(connection: sa.Connection, job_id: str, states: tuple[JobState, ...], deed: str) -> Job:
    """The job, if it is in one of `states`; UsageError otherwise."""
    job = _read(connection, job_id)
    if job.state not in states:
        raise UsageError(f"job {job_id} is {job.state}; only {', '.join(states[:-1])} and {states[-1]} jobs can be {deed}")
    return job
