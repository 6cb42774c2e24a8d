"""Which version the tables have, and how they come to the one that this program knows."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from certdicom.errors import UsageError

VERSION_TABLE: Final = "certdicom_schema"
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 0x63657274
"""PostgreSQL's advisory lock for changing the tables: two hosts may start at the same moment."""


def upgrade(engine: sa.Engine) -> tuple[str, str]:
    """Bring the tables to the newest version in one transaction; returns the versions before ("" for none) and after.

    UsageError when a newer program has made them.
    """
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))
        before = _version(connection)
        _require_known(before)
        if before != newest():
            migrate(connection, "head")
        return before, newest()


def migrate(connection: sa.Connection, version: str) -> None:
    """Bring the tables to a version, or to "head", in the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS))
    config.attributes["connection"] = connection
    command.upgrade(config, version)


def require_newest(engine: sa.Engine) -> None:
    """UsageError unless the tables are what this program knows: for commands that read them and do not change them."""
    with engine.connect() as connection:
        version = _version(connection)
    _require_known(version)
    if version != newest():
        raise UsageError("the node's database was made by an older certdicom; start the node once, it brings it up to date")


def newest() -> str:
    """The version of the schema that this program knows."""
    return _scripts().get_current_head() or ""


def _version(connection: sa.Connection) -> str:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision() or ""


def _require_known(version: str) -> None:
    if version and version not in {script.revision for script in _scripts().walk_revisions()}:
        raise UsageError(
            f"the node's database has version {version}, this certdicom knows versions up to {newest()}: "
            "it was made by a newer one; install that, or restore the backup of before the upgrade"
        )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(_MIGRATIONS))
