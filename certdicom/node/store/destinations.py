"""What is known of destinations beside their steps: whether somebody has paused them, and since when they take nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from certdicom.node.store.clock import SteadyClock
from certdicom.node.store.database import insert_once
from certdicom.node.store.events import Events
from certdicom.node.store.tables import DESTINATIONS, IN_HAND, STEPS


@dataclass(frozen=True)
class DestinationState:
    """`failing_s`: seconds since it took something last, None when it takes what it gets; `reason`: its last answer then."""

    paused: bool
    failing_s: float | None
    reason: str


class Destinations:
    """The table of destinations; one that was never paused and never failed has no row."""

    def __init__(self, engine: sa.Engine, clock: SteadyClock, events: Events) -> None:
        self._engine, self._clock, self._events = engine, clock, events

    def states(self) -> dict[str, DestinationState]:
        with self._engine.connect() as connection:
            rows = list(connection.execute(sa.select(DESTINATIONS)))
        now = self._clock.now()
        return {
            row.ae_title: DestinationState(row.paused, None if row.failing_since is None else now - row.failing_since, row.reason)
            for row in rows
        }

    def paused(self) -> set[str]:
        """AE titles of destinations that are sent nothing."""
        with self._engine.connect() as connection:
            return set(connection.execute(sa.select(DESTINATIONS.c.ae_title).where(DESTINATIONS.c.paused)).scalars())

    def pause(self, ae_title: str) -> None:
        """Send nothing more; what is being sent is sent to its end."""
        with self._engine.begin() as connection:
            self._set(connection, ae_title, paused=True)
            handed = (STEPS.c.destination == ae_title) & (STEPS.c.state == "waiting")
            connection.execute(sa.update(STEPS).where(IN_HAND, handed).values(run_id=""))

    def resume(self, ae_title: str) -> None:
        """Send again; what waits is due at once."""
        with self._engine.begin() as connection:
            self._set(connection, ae_title, paused=False)
            waiting = (STEPS.c.destination == ae_title) & (STEPS.c.state == "waiting") & (STEPS.c.kind == "deliver")
            connection.execute(sa.update(STEPS).where(waiting).values(due_at=self._clock.now()))

    def takes(self, ae_title: str) -> bool:
        """Note that it took something; True when it had not for a while."""
        with self._engine.connect() as connection:
            failing = (DESTINATIONS.c.ae_title == ae_title) & DESTINATIONS.c.failing_since.is_not(None)
            if connection.execute(sa.select(DESTINATIONS.c.ae_title).where(failing)).one_or_none() is None:
                return False
        change = sa.update(DESTINATIONS).where(failing).values(failing_since=None, reason="").returning(DESTINATIONS.c.told)
        with self._engine.begin() as connection:
            row = connection.execute(change).one_or_none()
            if row is not None and row.told:
                connection.execute(sa.update(DESTINATIONS).where(DESTINATIONS.c.ae_title == ae_title).values(told=False))
                self._events.tell(connection, "destination-recovered", destination=ae_title)
            return row is not None

    def fails(self, ae_title: str, reason: str) -> bool:
        """Note that it took nothing, and why; True when it had taken what came before."""
        with self._engine.begin() as connection:
            mine = DESTINATIONS.c.ae_title == ae_title
            row = connection.execute(sa.select(DESTINATIONS.c.failing_since).where(mine)).one_or_none()
            first = row is None or row.failing_since is None
            self._set(connection, ae_title, reason=reason, **({"failing_since": self._clock.now(), "told": False} if first else {}))
            return first

    def tell(self, after_s: float) -> None:
        """Notify people of destinations that have taken nothing for so many seconds, once."""
        query = sa.select(DESTINATIONS).where(DESTINATIONS.c.failing_since < self._clock.now() - after_s, ~DESTINATIONS.c.told)
        with self._engine.begin() as connection:
            for row in list(connection.execute(query)):
                mine = (DESTINATIONS.c.ae_title == row.ae_title) & ~DESTINATIONS.c.told
                if connection.execute(sa.update(DESTINATIONS).where(mine).values(told=True)).rowcount:
                    self._events.tell(connection, "destination-failing", destination=row.ae_title, code="unreachable", reason=row.reason)

    def _set(self, connection: sa.Connection, ae_title: str, **values: Any) -> None:
        fresh = {"paused": False, "failing_since": None, "told": False, "reason": "", **values}
        if not insert_once(connection, DESTINATIONS, ae_title=ae_title, **fresh):
            connection.execute(sa.update(DESTINATIONS).where(DESTINATIONS.c.ae_title == ae_title).values(**values))
