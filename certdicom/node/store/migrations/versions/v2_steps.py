"""One row for each thing that is owed, numbers of jobs by state, priorities, and what a film was to be certified with.

What waited, waits and is due at once; what was being certified or committed is done again. The steady clock begins at the wall clock, so
that moments of 0.1.0 keep their meaning.
"""

from __future__ import annotations

import time

import sqlalchemy as sa
from alembic import op

revision = "2"
down_revision = "1"


def upgrade() -> None:
    postgresql = op.get_bind().dialect.name == "postgresql"
    _change_jobs()
    _make_steps()
    _move_what_is_owed()
    op.drop_table("certdicom_deliveries")
    op.drop_table("certdicom_executors")
    op.create_table(
        "certdicom_executors",
        sa.Column("executor_id", sa.String(128), primary_key=True),
        sa.Column("beats", sa.BigInteger, nullable=False),
    )
    for name in ("generation", "told", "attempts"):
        op.drop_column("certdicom_jobs", name)
    _tally(postgresql=postgresql)
    now = time.time()
    op.execute(sa.text("INSERT INTO certdicom_meta (name, value) VALUES ('clock', :value)").bindparams(value=f"{now!r} {now!r}"))


def _change_jobs() -> None:
    for column in (
        sa.Column("code", sa.String(32), nullable=False, server_default=""),
        sa.Column("priority", sa.SmallInteger, nullable=False, server_default="1"),
        sa.Column("work", sa.String(16), nullable=False, server_default=""),
        sa.Column("window", sa.Text, nullable=False, server_default=""),
        sa.Column("crop", sa.Text, nullable=False, server_default=""),
        sa.Column("changed_at", sa.Float, nullable=False, server_default="0"),
    ):
        op.add_column("certdicom_jobs", column)
    op.execute("UPDATE certdicom_jobs SET changed_at = updated_at")
    op.execute("UPDATE certdicom_jobs SET state = 'queued' WHERE state = 'certifying'")
    for name in ("state", "updated_at"):
        op.drop_index(f"ix_certdicom_jobs_{name}", "certdicom_jobs")
    op.create_index("certdicom_jobs_recent", "certdicom_jobs", ["updated_at", "job_id"])
    op.create_index("certdicom_jobs_by_state", "certdicom_jobs", ["state", "updated_at", "job_id"])
    certified = sa.text("abstain IS NOT NULL")
    op.create_index(
        "certdicom_jobs_certified", "certdicom_jobs", ["updated_at", "abstain"], sqlite_where=certified, postgresql_where=certified
    )


def _make_steps() -> None:
    op.create_table(
        "certdicom_steps",
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("kind", sa.String(8), primary_key=True),
        sa.Column("destination", sa.String(16), primary_key=True),
        sa.Column("state", sa.String(8), nullable=False),
        sa.Column("priority", sa.SmallInteger, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("deadline_at", sa.Float, nullable=True),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("refusals", sa.Integer, nullable=False),
        sa.Column("losses", sa.Integer, nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("run_id", sa.String(96), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("stop_asked", sa.Boolean, nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    waiting = sa.text("state = 'waiting' AND run_id = ''")
    in_hand = sa.text("run_id != ''")
    open_ones = sa.text("state IN ('waiting', 'running')")
    due = ["kind", "destination", "priority", "due_at"]
    op.create_index("certdicom_steps_due", "certdicom_steps", due, sqlite_where=waiting, postgresql_where=waiting)
    op.create_index("certdicom_steps_in_hand", "certdicom_steps", ["run_id"], unique=True, sqlite_where=in_hand, postgresql_where=in_hand)
    age = ["kind", "destination", "state", "since"]
    op.create_index("certdicom_steps_open", "certdicom_steps", age, sqlite_where=open_ones, postgresql_where=open_ones)


def _move_what_is_owed() -> None:
    op.execute(
        "INSERT INTO certdicom_steps (job_id, kind, destination, state, priority, due_at, attempts, refusals, losses, "
        "code, reason, run_id, owner, stop_asked, since, updated_at) "
        "SELECT job_id, 'certify', '', CASE state WHEN 'failed' THEN 'failed' WHEN 'dropped' THEN 'stopped' ELSE 'waiting' END, "
        "1, 0, 0, 0, 0, '', reason, '', '', FALSE, received_at, updated_at FROM certdicom_jobs "
        "WHERE seg_sha256 = '' AND state IN ('queued', 'failed', 'dropped')"
    )
    op.execute(
        "INSERT INTO certdicom_steps (job_id, kind, destination, state, priority, due_at, attempts, refusals, losses, "
        "code, reason, run_id, owner, stop_asked, since, updated_at) "
        "SELECT job_id, 'deliver', destination, CASE WHEN state IN ('done', 'failed') THEN state ELSE 'waiting' END, "
        "1, 0, attempts, refusals, 0, '', reason, '', '', FALSE, created_at, updated_at FROM certdicom_deliveries"
    )


def _tally(*, postgresql: bool) -> None:
    op.create_table(
        "certdicom_tallies",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("delta", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO certdicom_tallies (state, delta) SELECT state, count(*) FROM certdicom_jobs GROUP BY state")
    gone, come = (
        "INSERT INTO certdicom_tallies (state, delta) VALUES (OLD.state, -1);",
        ("INSERT INTO certdicom_tallies (state, delta) VALUES (NEW.state, 1);"),
    )
    events = {"INSERT": come, "DELETE": gone, "UPDATE OF state": gone + " " + come}
    for event, noted in events.items():
        name = f"certdicom_tally_{event.partition(' ')[0].lower()}"
        head = f"CREATE TRIGGER {name} AFTER {event} ON certdicom_jobs FOR EACH ROW"
        if postgresql:
            op.execute(f"CREATE FUNCTION {name}() RETURNS trigger AS $$ BEGIN {noted} RETURN NULL; END $$ LANGUAGE plpgsql")
            op.execute(f"{head} EXECUTE FUNCTION {name}()")
        else:
            op.execute(f"{head} BEGIN {noted} END")
