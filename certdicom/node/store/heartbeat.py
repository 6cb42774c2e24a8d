"""Signs of life of nodes and workers, by the database's clock."""

from __future__ import annotations

import sqlalchemy as sa

from certdicom.node.store.database import clock
from certdicom.node.store.tables import EXECUTORS


class Heartbeat:
    """A row for each living process."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def beat(self, executor_id: str) -> None:
        """Say that a process is alive."""
        now = clock(self._engine)
        with self._engine.begin() as connection:
            if not connection.execute(sa.update(EXECUTORS).where(EXECUTORS.c.executor_id == executor_id).values(seen_at=now)).rowcount:
                connection.execute(sa.insert(EXECUTORS).values(executor_id=executor_id, seen_at=now))

    def end(self, executor_id: str) -> None:
        with self._engine.begin() as connection:
            connection.execute(sa.delete(EXECUTORS).where(EXECUTORS.c.executor_id == executor_id))

    def alive(self, within_s: float) -> set[str]:
        """Processes that gave a sign of life in the last `within_s` seconds."""
        query = sa.select(EXECUTORS.c.executor_id).where(EXECUTORS.c.seen_at > clock(self._engine) - within_s)
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())
