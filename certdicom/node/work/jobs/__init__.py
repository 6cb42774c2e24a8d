"""Durable jobs: one port, DBOS behind it, and an engine in memory for tests."""
