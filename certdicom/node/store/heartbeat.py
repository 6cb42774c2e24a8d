"""Signs of life of nodes and workers: a number for each, which grows as long as its process lives.

Whether it grows is seen by each observer's own monotonic clock, so that no wall clock, on whichever host, can make a living process dead.
"""

from __future__ import annotations

import time

import sqlalchemy as sa

from certdicom.node.store.tables import EXECUTORS


class Heartbeat:
    """The numbers, and when this process saw each of them grow."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._seen: dict[str, tuple[int, float]] = {}

    def beat(self, executor_id: str) -> None:
        """Say that a process is alive."""
        with self._engine.begin() as connection:
            mine = EXECUTORS.c.executor_id == executor_id
            if not connection.execute(sa.update(EXECUTORS).where(mine).values(beats=EXECUTORS.c.beats + 1)).rowcount:
                connection.execute(sa.insert(EXECUTORS).values(executor_id=executor_id, beats=1))

    def end(self, executor_id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(EXECUTORS).where(EXECUTORS.c.executor_id == executor_id))

    def beats(self) -> dict[str, int]:
        """The number of each process that has not signed off."""
        with self._engine.connect() as connection:
            return {str(name): int(beats) for name, beats in connection.execute(sa.select(EXECUTORS.c.executor_id, EXECUTORS.c.beats))}

    def alive(self, within_s: float) -> set[str]:
        """Processes that have not signed off and whose number has grown in the last `within_s` seconds, or was seen for the first time."""
        now, beats = time.monotonic(), self.beats()
        self._seen = {
            name: seen if (seen := self._seen.get(name)) and seen[0] == number else (number, now) for name, number in beats.items()
        }
        return {name for name in beats if now - self._seen[name][1] < within_s}
