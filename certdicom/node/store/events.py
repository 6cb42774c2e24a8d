"""What people are to be notified of. An event is written in the transaction in which it happened, with the step that tells of it."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from certdicom.node.store.records import ROUTINE
from certdicom.node.store.steps import Steps
from certdicom.node.store.tables import EVENTS, STEPS

Kind = Literal["job-failed", "destination-failing", "destination-recovered"]


@dataclass(frozen=True)
class Event:
    """Something that happened to a job or a destination; nothing in it is about a patient. `happened_at`: seconds since 1970."""

    event_id: str
    event: Kind
    job_id: str
    destination: str
    code: str
    reason: str
    happened_at: float


class Events:
    """The table of events that nobody was told of yet. Without anybody to tell, none is written."""

    def __init__(self, engine: sa.Engine, steps: Steps) -> None:
        self._engine, self._steps = engine, steps
        self.wanted = False

    def tell(
        self, connection: sa.Connection, event: Kind, *, job_id: str = "", destination: str = "", code: str = "", reason: str = ""
    ) -> None:
        """Owe a notification."""
        if not self.wanted:
            return
        event_id = str(uuid.uuid4())
        row = {"event_id": event_id, "event": event, "job_id": job_id, "destination": destination, "code": code, "reason": reason}
        connection.execute(sa.insert(EVENTS).values(**row, happened_at=time.time()))
        self._steps.owe(connection, event_id, "notify", "", priority=ROUTINE)

    def event(self, event_id: str) -> Event | None:
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(EVENTS).where(EVENTS.c.event_id == event_id)).one_or_none()
        return None if row is None else Event(**row._mapping)

    def forget(self, event_id: str) -> None:
        """Forget an event and its step."""
        with self._engine.begin() as connection:
            connection.execute(sa.delete(EVENTS).where(EVENTS.c.event_id == event_id))
            connection.execute(sa.delete(STEPS).where(STEPS.c.job_id == event_id))
