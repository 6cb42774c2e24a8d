"""The database: a SQLite file or PostgreSQL, and what the two say differently."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from certdicom.files import keep_private


def connect(database_url: str) -> sa.Engine:
    """A SQLAlchemy engine for `sqlite:///…` or `postgresql://…`; UsageError when the driver or the folder is missing."""
    url = sa.make_url(database_url)
    if url.get_backend_name() == "postgresql":
        return sa.create_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=5, max_overflow=10)
    engine = sa.create_engine(url, connect_args={"timeout": 30})
    if url.database:
        for path in Path(url.database).parent.glob(f"{Path(url.database).name}*"):  # beside it lie its log and its index
            keep_private(path)

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.isolation_level = "IMMEDIATE"  # writers queue up instead of failing when two of them began as readers
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")

    return engine


def insert_once(connection: sa.Connection, table: sa.Table, **values: Any) -> bool:
    """Insert a row; False when there is one with its key already."""
    if connection.dialect.name == "postgresql":
        query: Any = postgresql_insert(table).values(**values).on_conflict_do_nothing()
    else:
        query = sqlite_insert(table).values(**values).on_conflict_do_nothing()
    return bool(connection.execute(query).rowcount)
