"""The ledger's tables. They lie beside the job queue's own in the same database."""

from __future__ import annotations

import sqlalchemy as sa

METADATA = sa.MetaData()
JOBS = sa.Table(
    "certdicom_jobs",
    METADATA,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("subject", sa.String(16), nullable=False, index=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("generation", sa.Integer, nullable=False, default=1),
    sa.Column("told", sa.Boolean, key="enqueued", nullable=False, default=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("sender", sa.String(16), nullable=False, default=""),
    sa.Column("size", sa.BigInteger, nullable=False, default=0),
    sa.Column("received_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False, index=True),
    sa.Column("seg_sha256", sa.String(64), nullable=False, default=""),
    sa.Column("abstain", sa.Float, nullable=True),
    sa.Column("seconds", sa.Text, nullable=False, default="{}"),
)
DELIVERIES = sa.Table(
    "certdicom_deliveries",
    METADATA,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("destination", sa.String(16), primary_key=True),
    sa.Column("state", sa.String(16), nullable=False, index=True),
    sa.Column("reason", sa.Text, nullable=False, default=""),
    sa.Column("generation", sa.Integer, nullable=False, default=1),
    sa.Column("told", sa.Boolean, key="enqueued", nullable=False, default=False),
    sa.Column("attempts", sa.Integer, nullable=False, default=0),
    sa.Column("refusals", sa.Integer, nullable=False, default=0),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("updated_at", sa.Float, nullable=False),
)
COMMITMENTS = sa.Table(
    "certdicom_commitments",
    METADATA,
    sa.Column("transaction_uid", sa.String(64), primary_key=True),
    sa.Column("job_id", sa.String(36), nullable=False, index=True),
    sa.Column("destination", sa.String(16), nullable=False),
    sa.Column("state", sa.String(16), nullable=False),
    sa.Column("asked_at", sa.Float, nullable=False),
)
SENDINGS = sa.Table(
    "certdicom_sendings",
    METADATA,
    sa.Column("job_id", sa.String(36), primary_key=True),
    sa.Column("destination", sa.String(16), primary_key=True),
    sa.Column("name", sa.String(16), primary_key=True),
    sa.Column("sha256", sa.String(64), nullable=False),
)
EXECUTORS = sa.Table(
    "certdicom_executors",
    METADATA,
    sa.Column("executor_id", sa.String(128), primary_key=True),
    sa.Column("seen_at", sa.Float, nullable=False),
)
META = sa.Table("certdicom_meta", METADATA, sa.Column("name", sa.String(32), primary_key=True), sa.Column("value", sa.Text, nullable=False))
