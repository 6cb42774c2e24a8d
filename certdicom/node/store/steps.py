"""What is owed, and every transition of it. docs/node-design.md has the table of states; its rows are the methods of `Steps`.

A step that is handed to the job queue gets a run id that no attempt ever had before. Whoever begins or ends an attempt names it: an
attempt that was given up for lost finds another id there, or none, and changes nothing.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import sqlalchemy as sa

from certdicom.node.store.clock import SteadyClock
from certdicom.node.store.database import insert_once
from certdicom.node.store.records import (
    LOW,
    ROUTINE,
    STAT,
    Code,
    Done,
    End,
    Failed,
    Ignored,
    JobState,
    Later,
    Lost,
    Result,
    Step,
    StepKind,
    StepState,
)
from certdicom.node.store.tables import IN_HAND, JOBS, OPEN, STEPS, WAITING

_RETRIED: Final = ("waiting", "failed", "stopped")
_PRIORITIES: Final = (STAT, ROUTINE, LOW)
_FRESH: Final = {"attempts": 0, "refusals": 0, "losses": 0, "code": "", "reason": ""}


class Steps:
    """The table of steps. Every method is one transaction; database errors (SQLAlchemyError) pass through."""

    def __init__(self, engine: sa.Engine, clock: SteadyClock) -> None:
        self._engine, self._clock = engine, clock
        self.failed: Callable[[sa.Connection, Step, Failed], None] = lambda *_: None
        """Called in the transaction in which a step of a job has failed."""

    # reading

    def of(self, job_ids: Sequence[str]) -> list[Step]:
        """All steps of these jobs."""
        query = sa.select(STEPS).where(STEPS.c.job_id.in_(job_ids)).order_by(STEPS.c.destination, STEPS.c.kind.desc())
        with self._engine.connect() as connection:
            return [_step(row) for row in connection.execute(query)]

    def due(self, kind: StepKind, destination: str, most: int) -> list[Step]:
        """Steps of one queue that wait and are due, as many as bring those in hand to `most`, the most urgent first."""
        now = self._clock.now()
        found: list[Step] = []
        mine = (STEPS.c.kind == kind) & (STEPS.c.destination == destination)
        handed = sa.select(sa.func.count()).select_from(STEPS).where(IN_HAND, mine, STEPS.c.state == "waiting")
        with self._engine.connect() as connection:
            free = most - int(connection.execute(handed).scalar_one())
            for priority in _PRIORITIES:  # one range of the index each, however many wait for later
                if free > len(found):
                    query = sa.select(STEPS).where(WAITING, mine, STEPS.c.priority == priority, STEPS.c.due_at <= now)
                    query = query.order_by(STEPS.c.due_at).limit(free - len(found))
                    found += [_step(row) for row in connection.execute(query)]
        return found

    def in_hand(self) -> list[Step]:
        """Steps that were handed to the job queue, begun or not."""
        with self._engine.connect() as connection:
            return [_step(row) for row in connection.execute(sa.select(STEPS).where(IN_HAND))]

    def oldest(self) -> dict[tuple[StepKind, str, str], tuple[int, float]]:
        """By kind, destination and state of what is open: how many, and for how many seconds the oldest has been owed."""
        now = self._clock.now()
        which = (STEPS.c.kind, STEPS.c.destination, STEPS.c.state)
        query = sa.select(*which, sa.func.count(), sa.func.min(STEPS.c.since)).where(OPEN).group_by(*which)
        with self._engine.connect() as connection:
            return {(row[0], row[1], row[2]): (int(row[3]), max(0.0, now - float(row[4]))) for row in connection.execute(query)}

    # handing over

    def hand_over(self, steps: Sequence[Step]) -> list[Step]:
        """Give waiting steps a run id each; returns those that nobody else has handed over meanwhile."""
        handed = []
        with self._engine.begin() as connection:
            for step in steps:
                run_id = f"{step.job_id}.{step.queue}.{secrets.token_hex(8)}"
                mine = _key(step.job_id, step.kind, step.destination) & (STEPS.c.state == "waiting") & (STEPS.c.run_id == "")
                row = connection.execute(sa.update(STEPS).where(mine).values(run_id=run_id).returning(STEPS)).one_or_none()
                if row is not None:
                    handed.append(_step(row))
        return handed

    def release(self, run_id: str) -> None:
        """Take a step back that was handed over and not begun: its run will not come."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(STEPS).where(_run(run_id, "waiting")).values(run_id=""))

    # one attempt

    def begin(self, run_id: str, *, owner: str, certify_s: float) -> Step | None:
        """Begin an attempt; None when this run is not the one that the step waits for. `certify_s`: what certifying may take."""
        change: dict[str, Any] = {"state": "running", "owner": owner, "attempts": STEPS.c.attempts + 1, "updated_at": time.time()}
        change["deadline_at"] = sa.case((STEPS.c.kind == "certify", self._clock.now() + certify_s), else_=None)
        mine = _run(run_id, "waiting")
        with self._engine.begin() as connection:
            row = connection.execute(sa.update(STEPS).where(mine).values(**change).returning(STEPS)).one_or_none()
            if row is None:
                return None
            self._settle(connection, row.job_id)
            return _step(row)

    def finish(self, run_id: str, end: End) -> JobState | None:
        """End an attempt; returns the job's state then, or None when this run is not the step's any more and nothing was changed."""
        mine = _run(run_id, "running")
        with self._engine.begin() as connection:
            # Written to before it is read: from here on the row is ours alone.
            row = connection.execute(sa.update(STEPS).where(mine).values(updated_at=time.time()).returning(STEPS)).one_or_none()
            return None if row is None else self._end(connection, _step(row), end)

    def take_back(self, run_id: str) -> bool:
        """Undo the beginning of an attempt that a graceful stop has cut short: waiting and due at once, not counted."""
        mine = _run(run_id, "running")
        with self._engine.begin() as connection:
            row = connection.execute(
                sa.update(STEPS).where(mine).values(**self._waiting(attempts=STEPS.c.attempts - 1)).returning(STEPS.c.job_id)
            ).one_or_none()
            if row is not None:
                self._settle(connection, row.job_id)
            return row is not None

    def of_dead_processes(self, owner: str | None) -> list[Step]:
        """At a start: what is in hand of this process's former life; `owner` None: of every process, as there is no other one."""
        return [step for step in self.in_hand() if owner is None or step.owner == owner]

    def hurry(self) -> None:
        """Let every waiting step be due now: whoever starts a node after mending something does not want to wait."""
        with self._engine.begin() as connection:
            connection.execute(sa.update(STEPS).where(STEPS.c.state == "waiting").values(due_at=self._clock.now()))

    # people

    def owe(self, connection: sa.Connection, job_id: str, kind: StepKind, destination: str, *, priority: int, in_s: float = 0.0) -> None:
        """Let a step be owed from now on and due in so many seconds, whatever became of it before."""
        now = self._clock.now()
        fresh = self._waiting(**_FRESH, priority=priority, since=now, due_at=now + in_s)
        if not insert_once(connection, STEPS, job_id=job_id, kind=kind, destination=destination, **fresh):
            connection.execute(sa.update(STEPS).where(_key(job_id, kind, destination)).values(**fresh))

    def again(self, connection: sa.Connection, job_id: str) -> int:
        """Let all steps of a job that failed, were stopped or wait be due now; returns how many there are."""
        fresh = self._waiting(**_FRESH, since=self._clock.now())
        some = (STEPS.c.job_id == job_id) & STEPS.c.state.in_(_RETRIED)
        count = connection.execute(sa.update(STEPS).where(some).values(**fresh)).rowcount
        self._settle(connection, job_id)
        return int(count)

    def stop(self, connection: sa.Connection, job_id: str, *, destination: str | None = None, failed_too: bool = True) -> int:
        """Stop what waits, and has failed, at once, and what runs at its next border; returns how many steps that were."""
        mine = STEPS.c.job_id == job_id
        if destination is not None:
            mine &= STEPS.c.destination == destination
        at_rest = ("waiting", "failed") if failed_too else ("waiting",)
        stopped = {"state": "stopped", "code": "stopped", "reason": "stopped by hand", "run_id": "", "updated_at": time.time()}
        at_once = connection.execute(sa.update(STEPS).where(mine, STEPS.c.state.in_(at_rest)).values(**stopped)).rowcount
        running = connection.execute(sa.update(STEPS).where(mine, STEPS.c.state == "running").values(stop_asked=True)).rowcount
        self._settle(connection, job_id)
        return int(at_once) + int(running)

    def deliver_again(self, connection: sa.Connection, job_id: str, destination: str, *, priority: int, unless_done: bool = False) -> None:
        """Owe a delivery anew, and its commitment with it; `unless_done`: not where it was delivered."""
        done = sa.select(STEPS.c.state).where(_key(job_id, "deliver", destination), STEPS.c.state == "done")
        if unless_done and connection.execute(done).one_or_none() is not None:
            self._settle(connection, job_id)
            return
        connection.execute(sa.delete(STEPS).where(_key(job_id, "commit", destination)))
        self.owe(connection, job_id, "deliver", destination, priority=priority)
        self._settle(connection, job_id)

    def take_away(self, connection: sa.Connection, job_id: str, destination: str) -> bool:
        """Owe a destination nothing of a job any more; False when nothing of it waits, has failed or was stopped there."""
        gone = sa.delete(STEPS).where(_key(job_id, "deliver", destination), STEPS.c.state.in_(_RETRIED))
        if not connection.execute(gone).rowcount:
            return False
        connection.execute(sa.delete(STEPS).where(_key(job_id, "commit", destination)))
        return True

    def hasten(self, job_id: str, priority: int) -> None:
        """Raise the priority of what still waits; what was handed over is handed over again, before others."""
        mine = (STEPS.c.job_id == job_id) & (STEPS.c.state == "waiting") & (STEPS.c.priority > priority)
        with self._engine.begin() as connection:
            connection.execute(sa.update(STEPS).where(mine).values(priority=priority, run_id=""))
            connection.execute(sa.update(JOBS).where(JOBS.c.job_id == job_id, JOBS.c.priority > priority).values(priority=priority))

    # storage commitment

    def reported(self, connection: sa.Connection, job_id: str, destination: str, *, committed: bool, most_refusals: int) -> JobState:
        """An archive has answered: the commitment is done, or the delivery is owed again, failed at the `most_refusals`-th time."""
        commit, deliver = _key(job_id, "commit", destination), _key(job_id, "deliver", destination)
        ended = {"run_id": "", "owner": "", "updated_at": time.time()}
        if committed:
            connection.execute(sa.update(STEPS).where(commit).values(**ended, state="done", code="", reason=""))
        else:
            connection.execute(sa.delete(STEPS).where(commit))
            reason = "the destination says that it has not got the result"
            again = self._waiting(refusals=STEPS.c.refusals + 1, code="not-committed", reason=reason, since=self._clock.now())
            row = connection.execute(sa.update(STEPS).where(deliver).values(**again).returning(STEPS.c.refusals)).one_or_none()
            if row is not None and row.refusals >= most_refusals:
                reason = f"not committed {row.refusals} times: {reason}"
                failed = connection.execute(sa.select(STEPS).where(deliver)).one()
                self.failed(connection, _step(failed), Failed("not-committed", reason))
                connection.execute(sa.update(STEPS).where(deliver).values(**ended, state="failed", code="not-committed", reason=reason))
        return self._settle(connection, job_id)

    # the rest

    def _waiting(self, **values: Any) -> dict[str, Any]:
        """What a step that waits has in its row, due now unless `values` say otherwise."""
        waits: dict[str, Any] = {"state": "waiting", "due_at": self._clock.now(), "deadline_at": None, "run_id": "", "owner": ""}
        return {**waits, "stop_asked": False, "updated_at": time.time(), **values}

    def _end(self, connection: sa.Connection, step: Step, end: End) -> JobState:
        change: dict[str, Any] = {"run_id": "", "owner": "", "deadline_at": None, "stop_asked": False, "updated_at": time.time()}
        if isinstance(end, Lost):
            losses = step.losses + 1
            reason = f"{end.reason} ({losses} times)" if losses >= end.most > 1 else end.reason
            failed = Failed(end.code, reason)
            change["losses"] = losses
            end = failed if losses >= end.most else Later(end.wait_s, end.code, end.reason)
        if isinstance(end, (Later, Failed)) and step.stop_asked:
            change |= {"state": "stopped", "code": "stopped", "reason": "stopped by hand"}
        elif isinstance(end, Later):
            change |= {"state": "waiting", "due_at": self._clock.now() + end.wait_s, "code": end.code, "reason": end.reason}
            change["attempts"] = step.attempts - (not end.counted)
            change["refusals"] = step.refusals + end.refused
        elif isinstance(end, Failed):
            change |= {"state": "failed", "code": end.code, "reason": end.reason}
            self.failed(connection, step, end)
        else:
            change |= {"state": "done", "code": "", "reason": end.reason if isinstance(end, Done) else ""}
        connection.execute(sa.update(STEPS).where(_key(step.job_id, step.kind, step.destination)).values(**change))
        if isinstance(end, Ignored):
            return self._show(connection, step.job_id, "ignored", end.code, end.reason)
        if isinstance(end, Done):
            if end.result is not None:
                _record(connection, step.job_id, end.result)
            if not step.stop_asked:
                self._follow(connection, step, end)
        return self._settle(connection, step.job_id)

    def _follow(self, connection: sa.Connection, step: Step, end: Done) -> None:
        """Owe what comes next; what is owed already or was done before is left as it is."""
        known = {
            (row.kind, row.destination)
            for row in connection.execute(sa.select(STEPS.c.kind, STEPS.c.destination).where(STEPS.c.job_id == step.job_id))
        }
        for kind, destination in end.then:
            if (kind, destination) not in known:
                self.owe(connection, step.job_id, kind, destination, priority=step.priority)

    def _settle(self, connection: sa.Connection, job_id: str) -> JobState:
        """Let the job's state follow from its steps."""
        # On PostgreSQL two deliveries of a job may end at the same moment: the second must see what the first wrote.
        connection.execute(sa.select(JOBS.c.job_id).where(JOBS.c.job_id == job_id).with_for_update())
        rows = list(connection.execute(sa.select(STEPS).where(STEPS.c.job_id == job_id)))
        certify = next((row for row in rows if row.kind == "certify" and row.state != "done"), None)
        if certify is not None:
            states: dict[str, JobState] = {"waiting": "queued", "running": "certifying", "failed": "failed", "stopped": "dropped"}
            return self._show(connection, job_id, states[certify.state], certify.code, certify.reason)
        failed = next((row for row in rows if row.state == "failed"), None)
        if failed is not None:
            return self._show(connection, job_id, "failed", failed.code, f"not delivered to {failed.destination}: {failed.reason}")
        if any(row.state in ("waiting", "running") for row in rows):
            return self._show(connection, job_id, "delivering", "", "")
        if any(row.state == "stopped" for row in rows):
            return self._show(connection, job_id, "dropped", "stopped", "dropped by hand")
        if not any(row.kind == "deliver" for row in rows):
            return self._show(connection, job_id, "done", "no-destination", "no destination is configured; the result stays in the spool")
        return self._show(connection, job_id, "done", "", "")

    def _show(self, connection: sa.Connection, job_id: str, state: JobState, code: Code, reason: str) -> JobState:
        change = {"state": state, "code": code, "reason": reason, "updated_at": time.time(), "changed_at": self._clock.now()}
        connection.execute(sa.update(JOBS).where(JOBS.c.job_id == job_id).values(**change))
        return state


def _record(connection: sa.Connection, job_id: str, result: Result) -> None:
    kept = {"seg_sha256": result.seg_sha256, "abstain": result.abstain, "seconds": json.dumps(dict(result.seconds))}
    connection.execute(sa.update(JOBS).where(JOBS.c.job_id == job_id).values(**kept))


def _key(job_id: str, kind: StepKind, destination: str) -> sa.ColumnElement[bool]:
    return (STEPS.c.job_id == job_id) & (STEPS.c.kind == kind) & (STEPS.c.destination == destination)


def _run(run_id: str, state: StepState) -> sa.ColumnElement[bool]:
    """The step that was handed to a run, if it is in a state."""
    return sa.and_(IN_HAND, STEPS.c.run_id == run_id, STEPS.c.state == state)


def _step(row: Any) -> Step:
    return Step(**{name: getattr(row, name) for name in Step.__dataclass_fields__})
