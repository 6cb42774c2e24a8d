"""The tables of certdicom 0.1.0, which wrote no version: where they are there already, they are left as they are."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "1"
down_revision = None


def upgrade() -> None:
    metadata = sa.MetaData()
    sa.Table(
        "certdicom_jobs",
        metadata,
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("subject", sa.String(16), nullable=False, index=True),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("sender", sa.String(16), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("received_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False, index=True),
        sa.Column("seg_sha256", sa.String(64), nullable=False),
        sa.Column("abstain", sa.Float, nullable=True),
        sa.Column("seconds", sa.Text, nullable=False),
    )
    sa.Table(
        "certdicom_deliveries",
        metadata,
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("destination", sa.String(16), primary_key=True),
        sa.Column("state", sa.String(16), nullable=False, index=True),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("refusals", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("updated_at", sa.Float, nullable=False),
    )
    sa.Table(
        "certdicom_commitments",
        metadata,
        sa.Column("transaction_uid", sa.String(64), primary_key=True),
        sa.Column("job_id", sa.String(36), nullable=False, index=True),
        sa.Column("destination", sa.String(16), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
    )
    sa.Table(
        "certdicom_sendings",
        metadata,
        sa.Column("job_id", sa.String(36), primary_key=True),
        sa.Column("destination", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(16), primary_key=True),
        sa.Column("sha256", sa.String(64), nullable=False),
    )
    sa.Table(
        "certdicom_executors",
        metadata,
        sa.Column("executor_id", sa.String(128), primary_key=True),
        sa.Column("seen_at", sa.Float, nullable=False),
    )
    sa.Table(
        "certdicom_meta",
        metadata,
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    metadata.create_all(op.get_bind(), checkfirst=True)
