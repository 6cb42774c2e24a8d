"""The ledger's tables as they stand now; `migrations` says how they came to be. They lie beside the job queue's own in the same database.

Moments are of two kinds: `…_at` in JOBS is the wall clock, for people; `due_at`, `deadline_at`, `since` and `changed_at` are seconds of the
node's steady clock (`store/clock.py`), which rules go by.
"""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
JOBS = sa.Table(
    "certdicom_jobs",
    METADATA,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("subject", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("code", sa.String(32), nullable=False, server_default=""),
    sa.Column("priority", sa.SmallInteger, nullable=False, server_default="1"),
    sa.Column("sender", sa.String(16), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("work", sa.String(16), nullable=False, server_default=""),
    sa.Column("window", sa.Text, nullable=False, server_default=""),
    sa.Column("crop", sa.Text, nullable=False, server_default=""),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False, server_default="0"),
    sa.Column("seg_sha256", sa.String(64), nullable=False),
    sa.Column("abstain", sa.Float, nullable=True),
    sa.Column("seconds", sa.Text, nullable=False),
    sa.Column("promised", sa.Boolean, nullable=False, server_default=sa.false()),
)
"""One row a film, with its state as people see it, which follows from its steps.

`priority`: 0 STAT, 1 routine, 2 low. `work`: digest of bundle and parameters; `window`, `crop`: what was asked for its
sender's films; `promised`: a sender relies on our storage commitment for it.
"""

sa.Index("ix_certdicom_jobs_subject", JOBS.c.subject)
sa.Index("certdicom_jobs_recent", JOBS.c.updated_at, JOBS.c.job_id)
sa.Index("certdicom_jobs_by_state", JOBS.c.state, JOBS.c.updated_at, JOBS.c.job_id)

TALLIES = sa.Table(
    "certdicom_tallies",
    METADATA,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("delta", sa.BigInteger, nullable=False),
)
"""What triggers on JOBS note of each change of state: their sums are the numbers of jobs, without a count over a million rows."""

STEPS = sa.Table(
    "certdicom_steps",
    METADATA,
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
"""One row for each thing that is owed: certify a film, deliver its result to a destination, have that committed."""

# As texts, not as parameters: SQLite uses a partial index only where it can see that the query's condition is the index's.
WAITING = sa.text("state = 'waiting' AND run_id = ''")
IN_HAND = sa.text("run_id != ''")
OPEN = sa.text("state IN ('waiting', 'running')")
CERTIFIED = sa.text("abstain IS NOT NULL")
sa.Index("certdicom_jobs_certified", JOBS.c.updated_at, JOBS.c.abstain, sqlite_where=CERTIFIED, postgresql_where=CERTIFIED)
sa.Index(
    "certdicom_steps_due",
    STEPS.c.kind,
    STEPS.c.destination,
    STEPS.c.priority,
    STEPS.c.due_at,
    sqlite_where=WAITING,
    postgresql_where=WAITING,
)
sa.Index("certdicom_steps_in_hand", STEPS.c.run_id, unique=True, sqlite_where=IN_HAND, postgresql_where=IN_HAND)
sa.Index("certdicom_steps_open", STEPS.c.kind, STEPS.c.destination, STEPS.c.state, STEPS.c.since, sqlite_where=OPEN, postgresql_where=OPEN)

COMMITMENTS = sa.Table(
    "certdicom_commitments",
    METADATA,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(36), nullable=False),
    sa.Column("destination", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
    sa.Column("instances", sa.Text, nullable=False, server_default=""),
)
sa.Index("ix_certdicom_commitments_job_id", COMMITMENTS.c.job_id)
SENDINGS = sa.Table(
    "certdicom_sendings",
    METADATA,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("destination", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)
DESTINATIONS = sa.Table(
    "certdicom_destinations",
    METADATA,
    sa.Column("ae_title", sa.String(16), primary_key=True),
    sa.Column("paused", sa.Boolean, nullable=False),
    sa.Column("failing_since", sa.Float, nullable=True),
    sa.Column("told", sa.Boolean, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)
"""A row for each destination that was paused or failed once: `failing_since` by the steady clock, `told`: people were notified of that."""

EVENTS = sa.Table(
    "certdicom_events",
    METADATA,
    sa.Column("event_id", sa.String(36), primary_key=True),
    sa.Column("event", sa.String(32), nullable=False),
    sa.Column("job_id", sa.String(36), nullable=False),
    sa.Column("destination", sa.String(16), nullable=False),
    sa.Column("code", sa.String(32), nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("happened_at", sa.Float, nullable=False),
)
"""What people are to be notified of, until they were; each has a step "notify" under its id."""

PROMISES = sa.Table(
    "certdicom_promises",
    METADATA,
    sa.Column("promise_id", sa.String(36), primary_key=True),
    sa.Column("transaction_uid", sa.String(64), nullable=False),
    sa.Column("requestor", sa.String(16), nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
)
"""Storage commitment that senders have asked us for, until they were told; each has a step "report" under its id, and a file of
`Spool.request` with the instances.
"""

EXECUTORS = sa.Table(
    "certdicom_executors",
    METADATA,
    sa.Column("executor_id", sa.String(128), primary_key=True),
    sa.Column("beats", sa.BigInteger, nullable=False),
)
META = sa.Table("certdicom_meta", METADATA, sa.Column("name", sa.String(32), primary_key=True), sa.Column("value", sa.Text, nullable=False))
