"""The ledger: what should happen to each film, and what did. People see the node through it.

Rows hold pseudonyms, states and reasons; no pixels, and nothing about a patient. A row is written before the job engine is
told, and marked afterwards: `untold` is what a dead process left to say.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import sqlalchemy as sa

from certdicom.errors import UsageError
from certdicom.node.tables import COMMITMENTS, DELIVERIES, EXECUTORS, JOBS, META, METADATA

JobState = Literal["queued", "certifying", "delivering", "done", "ignored", "failed", "dropped"]
JOB_STATES: Final[tuple[JobState, ...]] = ("queued", "certifying", "delivering", "done", "ignored", "failed", "dropped")

DeliveryState = Literal["queued", "waiting", "committing", "done", "failed"]


@dataclass(frozen=True)
class Job:
    """One film: `subject` its pseudonym, `abstain` the abstaining share of its certificate, `seconds` per stage."""

    job_id: str
    subject: str
    state: JobState
    reason: str
    generation: int
    attempts: int
    sender: str
    size: int
    received_at: float
    updated_at: float
    seg_sha256: str
    abstain: float | None
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class Delivery:
    """One result on its way to one destination."""

    job_id: str
    destination: str
    state: DeliveryState
    reason: str
    generation: int
    attempts: int
    refusals: int
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class Order:
    """Something that the engine is to be told: certify a job, or deliver it to `destination`."""

    job_id: str
    generation: int
    destination: str | None = None

    @property
    def run_id(self) -> str:
        """The id under which the engine runs it once."""
        return f"{self.job_id}:{'certify' if self.destination is None else 'deliver:' + self.destination}:{self.generation}"


@dataclass(frozen=True)
class Result:
    """What a finished certificate leaves in the ledger."""

    seg_sha256: str
    abstain: float
    seconds: Mapping[str, float] = field(default_factory=dict)


def connect(database_url: str) -> sa.Engine:
    """A SQLAlchemy engine for `sqlite:///…` or `postgresql://…`; UsageError when the driver or the folder is missing."""
    url = sa.make_url(database_url)
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=5, max_overflow=10)
    engine = sa.create_engine(url, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = "IMMEDIATE"  # writers queue up instead of failing when two of them began as readers
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


class Ledger:
    """The tables of one database. Every method is one transaction; database errors (SQLAlchemyError) pass through."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def prepare(self, *, spool: str) -> None:
        """Make the tables, and tie the database to its spool. UsageError when it belongs to another one."""
        try:
            METADATA.create_all(self._engine)
        except sa.exc.DatabaseError:
            # Two processes that start at the same moment may both make them; the second finds them there.
            METADATA.create_all(self._engine)
        if not self._insert_once(META, name="spool", value=spool):
            with self._engine.connect() as connection:
                known = connection.execute(sa.select(META.c.value).where(META.c.name == "spool")).scalar_one()
            if known != spool:
                raise UsageError(
                    "node.state_dir is not the folder that this database's films are in; give all hosts the same shared folder"
                )

    def ping(self) -> None:
        """Raise when the database does not answer."""
        with self._engine.connect() as connection:
            connection.execute(sa.text("SELECT 1"))

    # films

    def enter(self, job_id: str, *, subject: str, sender: str, size: int, state: JobState = "queued", reason: str = "") -> bool:
        """Enter a film; False when its job is known already."""
        now = time.time()
        return self._insert_once(
            JOBS,
            job_id=job_id,
            subject=subject,
            state=state,
            reason=reason,
            sender=sender,
            size=size,
            received_at=now,
            updated_at=now,
            told=state != "queued",
            generation=1,
            attempts=0,
            seg_sha256="",
            seconds="{}",
        )

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
                            job_id=job_id, destination=destination, state="queued", reason="", told=False, created_at=now, updated_at=now
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

    def _open_deliveries(self, connection: sa.Connection, job_id: str) -> int:
        query = sa.select(sa.func.count()).select_from(DELIVERIES).where(DELIVERIES.c.job_id == job_id, DELIVERIES.c.state != "done")
        return int(connection.execute(query).scalar_one())

    # commitment

    def ask_commitment(self, transaction_uid: str, job_id: str, destination: str) -> None:
        self._insert_once(
            COMMITMENTS, transaction_uid=transaction_uid, job_id=job_id, destination=destination, state="asked", asked_at=time.time()
        )

    def answer_commitment(self, transaction_uid: str, *, committed: bool) -> bool:
        """Record a destination's answer; False when nobody asked."""
        query = (
            sa.update(COMMITMENTS)
            .where(COMMITMENTS.c.transaction_uid == transaction_uid)
            .values(state="committed" if committed else "refused")
        )
        with self._engine.begin() as connection:
            return bool(connection.execute(query).rowcount)

    def commitments(self, job_id: str, destination: str) -> set[str]:
        """States of all requests about a delivery: "asked", "committed", "refused"."""
        query = sa.select(COMMITMENTS.c.state).where(COMMITMENTS.c.job_id == job_id, COMMITMENTS.c.destination == destination)
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())

    def forget_commitments(self, job_id: str, destination: str) -> None:
        """Forget the answers about a delivery, before it is sent again."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(COMMITMENTS).where(COMMITMENTS.c.job_id == job_id, COMMITMENTS.c.destination == destination))

    # people

    def retry(self, job_id: str) -> Job:
        """Start again what failed or was left alone. UsageError when there is nothing to start again."""
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).one_or_none()
            if row is None:
                raise UsageError(f"there is no job {job_id}")
            if row.state not in ("failed", "ignored", "dropped"):
                raise UsageError(f"job {job_id} is {row.state}; only failed, ignored and dropped jobs can be started again")
            if row.seg_sha256:
                failed = (DELIVERIES.c.job_id == job_id) & (DELIVERIES.c.state == "failed")
                fresh = {"state": "queued", "reason": "", "told": False, "refusals": 0, "created_at": time.time()}
                connection.execute(sa.update(DELIVERIES).where(failed).values(**fresh, generation=DELIVERIES.c.generation + 1))
                connection.execute(_change(JOBS, job_id, state="delivering", reason=""))
            else:
                connection.execute(
                    _change(JOBS, job_id, state="queued", reason="", told=False, attempts=0, generation=JOBS.c.generation + 1)
                )
            return _job(connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).one())

    def drop(self, job_id: str) -> Job:
        """Give a job up. UsageError when it is running or finished."""
        with self._engine.begin() as connection:
            row = connection.execute(sa.select(JOBS).where(JOBS.c.job_id == job_id)).one_or_none()
            if row is None:
                raise UsageError(f"there is no job {job_id}")
            if row.state not in ("queued", "failed", "ignored"):
                raise UsageError(f"job {job_id} is {row.state}; only queued, failed and ignored jobs can be dropped")
            connection.execute(_change(JOBS, job_id, state="dropped", reason="dropped by hand"))
            return _job(row)

    # the engine

    def untold(self, job_id: str | None = None) -> list[Order]:
        """What the engine has not been told yet, of one job or of all."""
        of_job = sa.true() if job_id is None else JOBS.c.job_id == job_id
        of_delivery = sa.true() if job_id is None else DELIVERIES.c.job_id == job_id
        with self._engine.connect() as connection:
            jobs = connection.execute(sa.select(JOBS.c.job_id, JOBS.c.generation).where(~JOBS.c.told, JOBS.c.state == "queued", of_job))
            orders = [Order(row.job_id, row.generation) for row in jobs]
            found = connection.execute(
                sa.select(DELIVERIES.c.job_id, DELIVERIES.c.generation, DELIVERIES.c.destination).where(~DELIVERIES.c.told, of_delivery)
            )
            return orders + [Order(row.job_id, row.generation, row.destination) for row in found]

    def mark_told(self, order: Order) -> None:
        with self._engine.begin() as connection:
            if order.destination is None:
                mine = (JOBS.c.job_id == order.job_id) & (JOBS.c.generation == order.generation)
                connection.execute(sa.update(JOBS).where(mine).values(told=True))
            else:
                here = (DELIVERIES.c.job_id == order.job_id) & (DELIVERIES.c.destination == order.destination)
                connection.execute(sa.update(DELIVERIES).where(here, DELIVERIES.c.generation == order.generation).values(told=True))

    # signs of life

    def heartbeat(self, executor_id: str) -> None:
        """Say that a process is alive, by the database's clock."""
        now = self._clock()
        with self._engine.begin() as connection:
            if not connection.execute(sa.update(EXECUTORS).where(EXECUTORS.c.executor_id == executor_id).values(seen_at=now)).rowcount:
                connection.execute(sa.insert(EXECUTORS).values(executor_id=executor_id, seen_at=now))

    def farewell(self, executor_id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(EXECUTORS).where(EXECUTORS.c.executor_id == executor_id))

    def alive(self, within_s: float) -> set[str]:
        """Processes that gave a sign of life in the last `within_s` seconds."""
        with self._engine.connect() as connection:
            return set(
                connection.execute(sa.select(EXECUTORS.c.executor_id).where(EXECUTORS.c.seen_at > self._clock() - within_s)).scalars()
            )

    def _clock(self) -> sa.ColumnElement[float]:
        if self._engine.dialect.name == "postgresql":
            return sa.literal_column("extract(epoch from clock_timestamp())", sa.Float)
        return sa.literal_column("((julianday('now') - 2440587.5) * 86400.0)", sa.Float)

    def _insert_once(self, table: sa.Table, **values: Any) -> bool:
        if self._engine.dialect.name == "postgresql":
            from sqlalchemy.dialects.postgresql import insert as postgresql_insert

            query: Any = postgresql_insert(table).values(**values).on_conflict_do_nothing()
        else:
            from sqlalchemy.dialects.sqlite import insert as sqlite_insert

            query = sqlite_insert(table).values(**values).on_conflict_do_nothing()
        with self._engine.begin() as connection:
            return bool(connection.execute(query).rowcount)


def _change(table: sa.Table, job_id: str, **values: Any) -> sa.Update:
    return sa.update(table).where(table.c.job_id == job_id).values(updated_at=time.time(), **values)


def _job(row: Any) -> Job:
    fields = {name: getattr(row, name) for name in Job.__dataclass_fields__}
    return Job(**{**fields, "seconds": json.loads(row.seconds)})


def _delivery(row: Any) -> Delivery:
    return Delivery(**{name: getattr(row, name) for name in Delivery.__dataclass_fields__})
