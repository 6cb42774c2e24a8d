"""The database's versions, its speed with a million rows, its own clock, and that one SQLite folder serves one node."""

from __future__ import annotations

import socket
import time

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fakes import CheapCertifier

from certdicom.errors import UsageError
from certdicom.node import service
from certdicom.node.service import Service
from certdicom.node.store import schema
from certdicom.node.store.clock import SteadyClock
from certdicom.node.store.database import connect
from certdicom.node.store.heartbeat import Heartbeat
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.tables import METADATA
from certdicom.node.work.jobs.memory import MemoryQueue


@pytest.fixture
def engine(tmp_path):
    made = connect(f"sqlite:///{tmp_path / 'node.sqlite'}")
    schema.upgrade(made)
    yield made
    made.dispose()


def differences(engine: sa.Engine) -> list[object]:
    """What the tables are and are not, as against `tables.METADATA`."""
    ours = {table.name for table in METADATA.tables.values()}

    def is_ours(item, name, kind, _reflected, _compare_to):
        return (name if kind == "table" else item.table.name) in ours

    with engine.connect() as connection:
        options = {"version_table": schema.VERSION_TABLE, "include_object": is_ours}
        return compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)


def test_the_migrations_make_the_tables_that_the_program_knows(engine):
    assert differences(engine) == []
    assert schema.upgrade(engine) == (schema.newest(), schema.newest()), "and a second time changes nothing"


@pytest.mark.slow
def test_they_do_on_postgresql_too(database):
    engine = connect(database.url)
    assert schema.upgrade(engine) == ("", schema.newest())
    assert differences(engine) == []
    engine.dispose()


OWED_BY_THE_FIRST_EDITION = {
    # job and delivery as 0.1.0 left them; what is owed then, and the job's state
    "queued": ("queued", None, [("certify", "waiting")], "queued"),
    "certifying": ("certifying", None, [("certify", "waiting")], "queued"),
    "waiting": ("delivering", "waiting", [("deliver", "waiting")], "delivering"),
    "committing": ("delivering", "committing", [("deliver", "waiting")], "delivering"),
    "refused": ("failed", "failed", [("deliver", "failed")], "failed"),
    "not certified": ("failed", None, [("certify", "failed")], "failed"),
    "done": ("done", "done", [("deliver", "done")], "done"),
    "ignored": ("ignored", None, [], "ignored"),
    "dropped": ("dropped", None, [("certify", "stopped")], "dropped"),
}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def test_what_the_first_edition_owed_is_owed(request, tmp_path, kind):
    url = request.getfixturevalue("database").url if kind == "postgresql" else f"sqlite:///{tmp_path / 'old.sqlite'}"
    engine = connect(url)
    job = (
        "INSERT INTO certdicom_jobs (job_id, subject, state, reason, generation, told, attempts, sender, size, received_at, updated_at, "
        "seg_sha256, abstain, seconds) VALUES (:id, :id, :state, '', 1, TRUE, 1, 'CR', 1, 1e9, 1e9, :seg, NULL, '{}')"
    )
    delivery = (
        "INSERT INTO certdicom_deliveries (job_id, destination, state, reason, generation, told, attempts, refusals, created_at, "
        "updated_at) VALUES (:id, 'ARCHIVE', :state, '', 1, TRUE, 1, 0, 1e9, 1e9)"
    )
    with engine.begin() as connection:
        schema.migrate(connection, "1")
        for name, (state, delivered, _, _) in OWED_BY_THE_FIRST_EDITION.items():
            connection.execute(sa.text(job), {"id": name, "state": state, "seg": "ab" if delivered else ""})
            if delivered:
                connection.execute(sa.text(delivery), {"id": name, "state": delivered})
        connection.execute(sa.text("DROP TABLE certdicom_schema"))  # 0.1.0 wrote none
    assert schema.upgrade(engine) == ("", schema.newest())
    ledger = Ledger(engine)
    for name, (_, _, owed, state) in OWED_BY_THE_FIRST_EDITION.items():
        assert [(step.kind, step.state) for step in ledger.steps.of([name])] == owed, name
        assert ledger.job(name).state == state
    assert ledger.counts() == {"queued": 2, "certifying": 0, "delivering": 2, "done": 1, "ignored": 1, "failed": 2, "dropped": 1}
    assert [step.job_id for step in ledger.steps.due("deliver", "ARCHIVE", 9)] != []
    assert ledger.retry("refused").state == "delivering"
    engine.dispose()


def test_a_newer_database_is_not_touched_and_an_older_one_not_read(engine, tmp_path):
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE certdicom_schema SET version_num = '99'"))
    for use in (schema.upgrade, schema.require_newest):
        with pytest.raises(UsageError, match="version 99, this certdicom knows versions up to"):
            use(engine)
    old = connect(f"sqlite:///{tmp_path / 'old.sqlite'}")
    with pytest.raises(UsageError, match="start the node once"):
        schema.require_newest(old)
    old.dispose()


def test_a_second_node_on_another_host_does_not_start_on_the_folder(configure, run_node, monkeypatch):
    run_node(configure())
    monkeypatch.setattr(socket, "gethostname", lambda: "another-host")
    with pytest.raises(UsageError, match="another certdicom node runs with"):
        Service(configure(), certifier=CheapCertifier(), job_queue=MemoryQueue())


def test_nor_where_the_file_system_knows_no_locks_across_hosts(configure, run_node, monkeypatch):
    run_node(configure())
    monkeypatch.setattr(socket, "gethostname", lambda: "another-host")
    monkeypatch.setattr(service.fcntl, "flock", lambda *_: None)
    second = Service(configure(), certifier=CheapCertifier(), job_queue=MemoryQueue())
    with pytest.raises(UsageError, match="-node-1 runs with this"):
        second.start()


def test_the_dead_of_another_host_keep_nobody_from_starting(configure, run_node, monkeypatch):
    monkeypatch.setattr(service, "_WATCHED_ROUNDS", 0.1)
    first = Service(configure(), certifier=CheapCertifier(), job_queue=MemoryQueue())
    first.ledger.heartbeat.beat("container-0815-node-1")
    first._lock.close()
    node = run_node(configure())
    assert list(node.ledger.heartbeat.beats()) == [node.executor_id]


def test_the_steady_clock_goes_on_from_where_it_was_and_no_wall_clock_moves_it(engine, monkeypatch):
    clock, real = SteadyClock(engine), time.time
    began = clock.now()
    assert clock.tick() == 0.0
    for days in (8, 31, -1):
        monkeypatch.setattr(time, "time", lambda days=days: real() + days * 86400)
        assert clock.tick() == pytest.approx((days - {8: 0, 31: 8, -1: 31}[days]) * 86400, abs=1)
        assert clock.now() - began < 5
    late = SteadyClock(engine)
    assert 0 <= late.now() - began < 5
    monkeypatch.setattr(time, "time", lambda: real() - 40 * 86400)
    assert late.tick() == pytest.approx(-39 * 86400, abs=5), "a clock that is behind what it was at the last end is told at the start"
    other = SteadyClock(engine)
    other._base, other._began = other.now() + 100, time.monotonic()
    other.tick()
    assert clock.now() - began < 5
    clock.tick()
    assert clock.now() - began > 99, "processes of one database have one clock, the one that is ahead"


def test_a_process_is_alive_as_long_as_its_number_grows(engine, monkeypatch):
    heartbeat, present = Heartbeat(engine), [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: present[0])
    heartbeat.beat("a")
    heartbeat.beat("b")
    assert heartbeat.alive(60) == {"a", "b"}
    present[0] += 59
    heartbeat.beat("a")
    assert heartbeat.alive(60) == {"a", "b"}
    present[0] += 2
    assert heartbeat.alive(60) == {"a"}
    heartbeat.end("a")
    assert heartbeat.alive(60) == set()


MILLION = """
WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 999999)
INSERT INTO certdicom_jobs
    (job_id, subject, state, reason, sender, size, received_at, updated_at, changed_at, seg_sha256, abstain, seconds)
SELECT printf('%08d', i), printf('%08d', i), CASE WHEN i % 50 = 0 THEN 'ignored' ELSE 'done' END, '', 'CR', 1, i, i, i, 'ab', .05, '{}'
FROM n
"""
STEPS = """
INSERT INTO certdicom_steps
    (job_id, kind, destination, state, priority, due_at, attempts, refusals, losses, code, reason, run_id, owner, stop_asked, since,
    updated_at)
SELECT job_id, 'deliver', 'ARCHIVE', 'done', 1, 0, 1, 0, 0, '', '', '', '', 0, 0, 0 FROM certdicom_jobs
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_the_page_and_the_supervisor_ask_takes_less_than_5_ms_with_a_million_films(engine):
    ledger = Ledger(engine)
    with engine.begin() as connection:
        connection.execute(sa.text(MILLION))
        connection.execute(sa.text(STEPS))
        connection.execute(sa.text("UPDATE certdicom_steps SET state = 'waiting', due_at = 1e12 WHERE job_id >= '00990000'"))
    ledger.sum_up()
    page = [job.job_id for job in ledger.jobs(limit=50)]
    asked = {
        "due": lambda: ledger.steps.due("deliver", "ARCHIVE", 32),
        "in hand": ledger.steps.in_hand,
        "oldest": ledger.steps.oldest,
        "counts": ledger.counts,
        "the last fifty": lambda: ledger.jobs(limit=50),
        "the last fifty ignored": lambda: ledger.jobs(states=("ignored",), limit=50),
        "none of a state": lambda: ledger.jobs(states=("failed",), limit=50),
        "their steps": lambda: ledger.steps.of(page),
        "done in the last hour": lambda: ledger.finished_since(999_000),
        "abstaining shares": lambda: ledger.recent_abstain(50),
        "a film by its UID": lambda: ledger.jobs(subject="00000815"),
    }
    assert ledger.counts()["done"] == 980_000
    with engine.connect() as connection:  # what changes rows must find them as quickly; how long the disk takes is another matter
        plan = connection.exec_driver_sql(
            "EXPLAIN QUERY PLAN UPDATE certdicom_steps SET state = '' WHERE run_id != '' AND run_id = ?", ("x",)
        )
        assert "USING INDEX certdicom_steps_in_hand" in str(list(plan))
    took = {}
    for name, ask in asked.items():
        moments = []
        for _ in range(7):
            started = time.perf_counter()
            ask()
            moments.append(1000 * (time.perf_counter() - started))
        took[name] = sorted(moments)[3]
    print("\n" + ", ".join(f"{name} {ms:.2f} ms" for name, ms in took.items()))
    assert max(took.values()) < 5, took
