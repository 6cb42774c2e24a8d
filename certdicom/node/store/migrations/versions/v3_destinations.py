"""Destinations that are paused or fail, what people are notified of, and storage commitment in both directions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "3"
down_revision = "2"


def upgrade() -> None:
    op.add_column("certdicom_commitments", sa.Column("instances", sa.Text, nullable=False, server_default=""))
    op.add_column("certdicom_jobs", sa.Column("promised", sa.Boolean, nullable=False, server_default=sa.false()))
    op.create_table(
        "certdicom_destinations",
        sa.Column("ae_title", sa.String(16), primary_key=True),
        sa.Column("paused", sa.Boolean, nullable=False),
        sa.Column("failing_since", sa.Float, nullable=True),
        sa.Column("told", sa.Boolean, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "certdicom_events",
        sa.Column("event_id", sa.String(36), primary_key=True),
        sa.Column("event", sa.String(32), nullable=False),
        sa.Column("job_id", sa.String(36), nullable=False),
        sa.Column("destination", sa.String(16), nullable=False),
        sa.Column("code", sa.String(32), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("happened_at", sa.Float, nullable=False),
    )
    op.create_table(
        "certdicom_promises",
        sa.Column("promise_id", sa.String(36), primary_key=True),
        sa.Column("transaction_uid", sa.String(64), nullable=False),
        sa.Column("requestor", sa.String(16), nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("asked_at", sa.Float, nullable=False),
    )
