"""The ledger: what should happen to each film, and what did. People see the node through it.

Rows hold pseudonyms, states and reasons; no pixels, and nothing about a patient.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from certdicom.errors import UsageError
from certdicom.node.store import schema
from certdicom.node.store.clock import SteadyClock
from certdicom.node.store.database import insert_once
from certdicom.node.store.delivery_log import Commitments, Sendings
from certdicom.node.store.destinations import Destinations
from certdicom.node.store.events import Events
from certdicom.node.store.heartbeat import Heartbeat
from certdicom.node.store.promises import Promises
from certdicom.node.store.records import JOB_STATES, ROUTINE, Code, Failed, Job, JobState, Step
from certdicom.node.store.steps import Steps
from certdicom.node.store.tables import CERTIFIED, COMMITMENTS, JOBS, META, SENDINGS, STEPS, TALLIES

_PURGED_AT_ONCE: Final = 500
_RETRIED: Final[tuple[JobState, ...]] = ("queued", "delivering", "failed", "ignored", "dropped")
_DROPPED: Final[tuple[JobState, ...]] = ("queued", "certifying", "delivering", "failed", "ignored")
_AT_REST: Final[tuple[JobState, ...]] = ("failed", "ignored", "dropped")
_TALLIES_KEPT: Final = 1000
"""Notes of changes that are summed up when there are more."""


class Ledger:
    """The tables of one database. Every method is one transaction; database errors (SQLAlchemyError) pass through."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self.clock = SteadyClock(engine)
        self.steps = Steps(engine, self.clock)
        self.commitments, self.sendings, self.heartbeat = Commitments(engine, self.steps), Sendings(engine), Heartbeat(engine)
        self.events, self.promises = Events(engine, self.steps), Promises(engine, self.steps)
        self.destinations = Destinations(engine, self.clock, self.events)
        self.steps.failed = self._failed

    @property
    def on_one_host(self) -> bool:
        """Whether the database is a file, which one process has for itself."""
        return self._engine.dialect.name == "sqlite"

    def prepare(self, *, spool: str) -> tuple[str, str]:
        """Bring the tables up to date, and tie the database to its spool; returns the versions of the schema before and after.

        UsageError when it belongs to another spool, or was made by a newer program.
        """
        versions = schema.upgrade(self._engine)
        known = self.agree("spool", spool)
        if known != spool:
            raise UsageError("node.state_dir is not the folder that this database's films are in; give all hosts the same shared folder")
        return versions

    def require_prepared(self) -> None:
        """UsageError unless the tables are as this program knows them."""
        schema.require_newest(self._engine)

    def agree(self, name: str, value: str) -> str:
        """What all processes agreed on under a name: `value`, if nobody has said anything before."""
        with self._engine.begin() as connection:
            insert_once(connection, META, name=name, value=value)
            return str(connection.execute(sa.select(META.c.value).where(META.c.name == name)).scalar_one())

    def ping(self) -> None:
        """Raise when the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    # films

    def enter(
        self,
        job_id: str,
        *,
        subject: str,
        sender: str,
        size: int,
        work: str,
        asked: Mapping[str, str],
        priority: int = ROUTINE,
        ignored: tuple[Code, str] | None = None,
    ) -> bool:
        """Enter a film, to be certified or, with a code and a reason, `ignored`; False when its job is known already.

        `work`: digest of bundle and parameters; `asked`: the window and the crop that it is certified with.
        """
        row = {"job_id": job_id, "subject": subject, "sender": sender, "size": size, "work": work, "priority": priority, **asked}
        with self._engine.begin() as connection:
            return self._enter(connection, row, ignored)

    def renew(self, job: Job, job_id: str, *, work: str, asked: Mapping[str, str]) -> None:
        """Let another job do what `job` was to do: another bundle or other parameters make another result."""
        row = {"job_id": job_id, "subject": job.subject, "sender": job.sender, "size": job.size, "work": work, "priority": job.priority}
        with self._engine.begin() as connection:
            if not self._enter(connection, {**row, **asked}, None) and (known := _read(connection, job_id)).state in _AT_REST:
                self._certify_again(connection, known)  # the bundle of before is back
            self.steps.stop(connection, job.job_id)
            reason = f"certified as job {job_id}, with the present bundle and parameters"
            connection.execute(_change(job.job_id, state="dropped", code="renewed", reason=reason))

    def adopt_work(self, job_id: str, work: str) -> None:
        """Note that a job is certified with this bundle and these parameters."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(JOBS).where(JOBS.c.job_id == job_id).values(work=work))

    def touch(self, job_id: str) -> None:
        """Let a job have changed now: what is kept of it is kept from now on."""
        with self._engine.begin() as connection:
            connection.execute(_change(job_id, changed_at=self.clock.now()))

    def _enter(self, connection: sa.Connection, row: dict[str, Any], ignored: tuple[Code, str] | None) -> bool:
        now = time.time()
        code, reason = ignored or ("", "")
        fresh = {"seg_sha256": "", "seconds": "{}", "received_at": now, "updated_at": now, "changed_at": self.clock.now()}
        entered = insert_once(connection, JOBS, state="ignored" if ignored else "queued", code=code, reason=reason, **row, **fresh)
        if entered and not ignored:
            self.steps.owe(connection, row["job_id"], "certify", "", priority=row["priority"])
        return entered

    def _certify_again(self, connection: sa.Connection, job: Job) -> None:
        self.steps.owe(connection, job.job_id, "certify", "", priority=job.priority)
        self.steps.again(connection, job.job_id)

    def job(self, job_id: str) -> Job | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).one_or_none()
        return _job(row) if row else None

    def jobs(
        self,
        *,
        states: Sequence[JobState] = (),
        subject: str | None = None,
        since: float | None = None,
        until: float | None = None,
        destination: str | None = None,
        limit: int = 100,
    ) -> list[Job]:
        """Jobs, the last changed first. `since`, `until`: received then (seconds since 1970); `destination`: with a delivery to it."""
        query = sa.select(JOBS).order_by(JOBS.c.updated_at.desc(), JOBS.c.job_id.desc()).limit(limit)
        if since is not None:
            query = query.where(JOBS.c.received_at >= since)
        if until is not None:
            query = query.where(JOBS.c.received_at < until)
        if destination is not None:
            delivery = (STEPS.c.job_id == JOBS.c.job_id) & (STEPS.c.kind == "deliver") & (STEPS.c.destination == destination)
            query = query.where(sa.exists().where(delivery))
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

    def to_certify_with_other_than(self, work: str) -> list[Job]:
        """Jobs that wait to be certified with another bundle or other parameters than `work`."""
        query = sa.select(JOBS).where(JOBS.c.state.in_(("queued", "certifying")), JOBS.c.work != work)
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(query)]

    def counts(self) -> dict[JobState, int]:
        """Number of jobs in each state."""
        with self._engine.connect() as connection:
            sums = connection.execute(sa.select(TALLIES.c.state, sa.func.sum(TALLIES.c.delta)).group_by(TALLIES.c.state))
            found = {str(state): int(number) for state, number in sums}
        return {state: found.get(state, 0) for state in JOB_STATES}

    def sum_up(self) -> None:
        """Replace the notes of changes from which `counts` are made by their sums, when they have become many."""
        with self._engine.begin() as connection:
            if int(connection.execute(sa.select(sa.func.count()).select_from(TALLIES)).scalar_one()) <= _TALLIES_KEPT:
                return
            sums: dict[str, int] = {}
            for state, delta in connection.execute(sa.delete(TALLIES).returning(TALLIES.c.state, TALLIES.c.delta)):
                sums[state] = sums.get(state, 0) + delta
            connection.execute(sa.insert(TALLIES), [{"state": state, "delta": delta} for state, delta in sums.items() if delta])

    def finished_since(self, moment: float) -> int:
        """How many jobs were done after `moment` (seconds since 1970)."""
        with self._engine.connect() as connection:
            query = sa.select(sa.func.count()).select_from(JOBS).where(JOBS.c.state == "done", JOBS.c.updated_at > moment)
            return int(connection.execute(query).scalar_one())

    def recent_abstain(self, number: int) -> list[float]:
        """Abstaining shares of the last `number` certificates."""
        query = sa.select(JOBS.c.abstain).where(CERTIFIED).order_by(JOBS.c.updated_at.desc()).limit(number)
        with self._engine.connect() as connection:
            return [float(value) for (value,) in connection.execute(query)]

    def awaited(self) -> set[str]:
        """Destinations that something is owed to."""
        return {destination for _, destination, _ in self.steps.oldest() if destination}

    # people

    def retry(self, job_id: str) -> Job:
        """Let what failed, was stopped or waits be due now. UsageError when nothing of the job can be started again."""
        with self._engine.begin() as connection:
            job = _require(connection, job_id, _RETRIED, "started again")
            if not self.steps.again(connection, job_id) and job.state in _AT_REST:
                self._certify_again(connection, job)
            return _read(connection, job_id)

    def drop(self, job_id: str) -> Job:
        """Give a job up: at once, or where it runs at the next border. UsageError when it is finished."""
        with self._engine.begin() as connection:
            job = _require(connection, job_id, _DROPPED, "dropped")
            if job.state == "ignored":
                connection.execute(_change(job_id, state="dropped", code="stopped", reason="dropped by hand", changed_at=self.clock.now()))
            else:
                self.steps.stop(connection, job_id)
            return _read(connection, job_id)

    def stop(self, job_id: str, destination: str | None = None) -> Job:
        """Stop what waits, or runs at its next border; of one destination or all. UsageError when nothing does."""
        with self._engine.begin() as connection:
            job = _read(connection, job_id)
            if not self.steps.stop(connection, job_id, destination=destination, failed_too=False):
                where = f" for {destination}" if destination else ""
                raise UsageError(f"job {job_id} is {job.state}; nothing of it waits{where}")
            return _read(connection, job_id)

    def redeliver(self, job_id: str, destinations: Sequence[str]) -> Job:
        """Owe the result's delivery anew. UsageError when there is no result, or no destination."""
        with self._engine.begin() as connection:
            job = _read(connection, job_id)
            if not job.seg_sha256:
                raise UsageError(f"job {job_id} is {job.state} and has no result")
            if not destinations:
                raise UsageError("no destination is configured")
            for destination in destinations:
                self.steps.deliver_again(connection, job_id, destination, priority=job.priority)
            return _read(connection, job_id)

    def redirect(self, job_id: str, destination: str, other: str) -> Job:
        """Let another destination get what waits for one, has failed there or was stopped. UsageError when nothing is."""
        with self._engine.begin() as connection:
            job = _read(connection, job_id)
            if not self.steps.take_away(connection, job_id, destination):
                raise UsageError(f"job {job_id} is {job.state}; nothing of it waits for {destination}")
            self.steps.deliver_again(connection, job_id, other, priority=job.priority, unless_done=True)
            return _read(connection, job_id)

    def _failed(self, connection: sa.Connection, step: Step, end: Failed) -> None:
        if step.kind in ("certify", "deliver", "commit"):
            told = {"job_id": step.job_id, "destination": step.destination, "code": end.code, "reason": end.reason}
            self.events.tell(connection, "job-failed", **told)

    # what is past its time

    def age_s(self, job: Job) -> float:
        """Seconds since a job changed, by the steady clock."""
        return self.clock.now() - job.changed_at

    def settled(self, age_s: float) -> list[str]:
        """Ids of jobs that nothing more will happen to and that have not changed for `age_s` seconds."""
        query = sa.select(JOBS.c.job_id).where(
            JOBS.c.state.in_(("done", "ignored", "dropped")), JOBS.c.changed_at < self.clock.now() - age_s
        )
        with self._engine.connect() as connection:
            return list(connection.execute(query).scalars())

    def purge(self, job_ids: Sequence[str]) -> None:
        """Forget jobs and all that was noted about them."""
        for start in range(0, len(job_ids), _PURGED_AT_ONCE):
            some = job_ids[start : start + _PURGED_AT_ONCE]
            with self._engine.begin() as connection:
                for table in (COMMITMENTS, SENDINGS, STEPS, JOBS):
                    connection.execute(sa.delete(table).where(table.c.job_id.in_(some)))


def _change(job_id: str, **values: Any) -> sa.Update:
    return sa.update(JOBS).where(JOBS.c.job_id == job_id).values(updated_at=time.time(), **values)


def _job(row: Any) -> Job:
    fields = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    return Job(**{**fields, "seconds": json.loads(row.seconds)})


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
