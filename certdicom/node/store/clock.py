"""The node's own clock, which nobody can set: it counts the seconds in which a node or worker was running.

A wall clock is set by people and by daemons, by days if it was wrong. Waits, deadlines and what is past its time go by this clock: it goes
on from where it was after a restart, is one for all processes of a database, and began at the wall clock of the day on which it was made.
"""

from __future__ import annotations

import threading
import time
from typing import Final

import sqlalchemy as sa

from certdicom.node.store.tables import META

JUMP_S: Final = 5.0
"""A wall clock that gains or loses more than this against the monotonic one was set."""


class SteadyClock:
    """Seconds that pass while processes run; kept in the database by `tick`. SQLAlchemyError when it cannot be read for the first time."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._base: float | None = None
        self._began = 0.0
        self._last: tuple[float, float] | None = None

    def now(self) -> float:
        """Seconds on this clock."""
        with self._lock:
            if self._base is None:
                with self._engine.connect() as connection:
                    base, _ = _read(connection)
                self._base, self._began = base, time.monotonic()
            return self._base + (time.monotonic() - self._began)

    def tick(self) -> float:
        """Keep the time that has passed; returns the seconds by which the wall clock was set forward (or back) since the last tick.

        At the first tick only a clock that is behind what it was is told: that time passed while nobody ran is no news.
        """
        mine = self.now()
        wall, monotonic = time.time(), time.monotonic()
        with self._engine.begin() as connection:
            stored, seen = _read(connection)
            latest = max(stored, mine)
            connection.execute(sa.update(META).where(META.c.name == "clock").values(value=f"{latest!r} {wall!r}"))
        last, self._last = self._last, (wall, monotonic)
        with self._lock:
            if stored > mine:
                self._base, self._began = stored, monotonic
        if last is None:
            return min(0.0, wall - seen) if wall - seen < -JUMP_S else 0.0
        jump = (wall - last[0]) - (monotonic - last[1])
        return jump if abs(jump) > JUMP_S else 0.0


def _read(connection: sa.Connection) -> tuple[float, float]:
    """The clock as it was kept last, and the wall clock of that moment."""
    steady, _, wall = connection.execute(sa.select(META.c.value).where(META.c.name == "clock")).scalar_one().partition(" ")
    return float(steady), float(wall)
