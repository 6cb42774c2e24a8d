"""What was said to destinations, apart from the state of a delivery: bytes that went out, and questions for commitment."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import sqlalchemy as sa

from certdicom.node.store.database import insert_once
from certdicom.node.store.records import JobState
from certdicom.node.store.steps import Steps
from certdicom.node.store.tables import COMMITMENTS, SENDINGS


class Sendings:
    """Which bytes went where, recorded before the first one goes out, so that a lost response can be resolved on retry."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def begin(self, job_id: str, destination: str, name: str, sha256: str) -> bool:
        """Note that a file of a result is about to be sent; True when the same bytes are noted already."""
        mine = _sending(job_id, destination, name)
        with self._engine.begin() as connection:
            if insert_once(connection, SENDINGS, job_id=job_id, destination=destination, name=name, sha256=sha256):
                return False
            before = connection.execute(sa.select(SENDINGS.c.sha256).where(mine)).scalar_one()
            connection.execute(sa.update(SENDINGS).where(mine).values(sha256=sha256))
            return bool(before == sha256)

    def forget(self, job_id: str, destination: str, name: str) -> None:
        """Take a note back: the destination has said that it did not take the file."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(SENDINGS).where(_sending(job_id, destination, name)))


def _sending(job_id: str, destination: str, name: str) -> sa.ColumnElement[bool]:
    return (SENDINGS.c.job_id == job_id) & (SENDINGS.c.destination == destination) & (SENDINGS.c.name == name)


class Commitments:
    """Requests for storage commitment, by their Transaction UIDs."""

    def __init__(self, engine: sa.Engine, steps: Steps) -> None:
        self._engine, self._steps = engine, steps

    def ask(self, transaction_uid: str, job_id: str, destination: str, instances: Iterable[tuple[str, str]]) -> None:
        """Note what a destination is asked about: SOP Class and Instance UIDs."""
        with self._engine.begin() as connection:
            insert_once(
                connection,
                COMMITMENTS,
                transaction_uid=transaction_uid,
                job_id=job_id,
                destination=destination,
                state="asked",
                asked_at=time.time(),
                instances=json.dumps(sorted(instances)),
            )

    def asked(self, transaction_uid: str) -> frozenset[tuple[str, str]]:
        """What was asked about under a Transaction UID; empty when nobody asked."""
        query = sa.select(COMMITMENTS.c.instances).where(COMMITMENTS.c.transaction_uid == transaction_uid)
        with self._engine.connect() as connection:
            kept = connection.execute(query).scalar_one_or_none()
        return frozenset((sop_class, instance) for sop_class, instance in json.loads(kept or "[]"))

    def answer(self, transaction_uid: str, *, committed: bool, most_refusals: int) -> tuple[str, str, JobState] | None:
        """Record a destination's answer, and what follows: the commitment is done, or the delivery owed again.

        Returns the job, the destination and the job's state; None when nobody asked, or the answer was known.
        """
        mine = (COMMITMENTS.c.transaction_uid == transaction_uid) & (COMMITMENTS.c.state == "asked")
        query = sa.update(COMMITMENTS).where(mine).values(state="committed" if committed else "refused").returning(COMMITMENTS)
        with self._engine.begin() as connection:
            row = connection.execute(query).one_or_none()
            if row is None:
                return None
            state = self._steps.reported(connection, row.job_id, row.destination, committed=committed, most_refusals=most_refusals)
            if not committed:  # what else was asked about this delivery is about one that is to be repeated
                others = (COMMITMENTS.c.job_id == row.job_id) & (COMMITMENTS.c.destination == row.destination)
                connection.execute(sa.delete(COMMITMENTS).where(others))
            return row.job_id, row.destination, state
