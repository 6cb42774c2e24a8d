"""Durable jobs: one port, DBOS behind it, and a job queue in memory for tests."""
