"""The life of a job on the real job queue: what ends in an unforeseen way is taken up again, and nothing waits in a slot."""

from __future__ import annotations

import os
import signal
import sqlite3
import time

import pytest
from fakes import Archive, wait_until
from processes import Cluster, each_film_once, full, small_disk, uid_of
from pydicom import dcmread

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def start_cluster(request, make_cluster):
    """A node on SQLite; or one on PostgreSQL with two workers, which alone certify. Started, after `prepare` was called with it."""

    def start(prepare=lambda cluster: None, **options) -> Cluster:
        if request.param == "sqlite":
            cluster = make_cluster(**options)
            prepare(cluster)
            cluster.start("node")
            return cluster
        cluster = make_cluster(database_url=request.getfixturevalue("database").url, **options)
        prepare(cluster)
        for name in ("worker-1", "worker-2"):
            cluster.start(name, "worker")
        wait_until(lambda: cluster.logs().count('"message": "started"') == 2, 60, "the workers")
        path = cluster.folder / "node.toml"
        path.write_text(path.read_text(encoding="utf-8").replace("workers = 1", "workers = 0"), encoding="utf-8")
        cluster.start("node")
        return cluster

    return start


def refusing(*uids: str, status: int = 0xA700) -> Archive:
    """An archive that has no room for the results of some films."""
    archive = Archive()
    taken = archive._store

    def store(event):
        dataset = event.dataset
        film = dataset.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        return status if film in uids else taken(event)

    archive._store = store
    return archive.start()


def test_a_full_disk_delays_and_nothing_more(make_cluster, make_film, tmp_path):
    archive = Archive().start()
    archive.stop()
    films = [make_film(number) for number in range(6)]
    with small_disk(tmp_path / "disk", 48) as disk:
        cluster = make_cluster(archive=archive, state=disk / "state")
        cluster.start("node")
        process = cluster.processes["node"].pid
        assert cluster.send(*films[:5]) == [True] * 5
        wait_until(lambda: len(cluster.jobs("delivering")) == 5, 60, "certificates")
        with full(disk):
            assert cluster.send(films[5]) == [False]
            archive.start()
            time.sleep(float(os.environ.get("CERTDICOM_FULL_S", "6")))
        wait_until(lambda: len(cluster.jobs("done")) == 5, 120, "delivery once there is room again")
        assert cluster.send(films[5]) == [True]
        wait_until(lambda: each_film_once(cluster, films), 60, "the sixth film")
        assert cluster.processes["node"].pid == process
        assert not cluster.dead("node")
        assert cluster.stop("node") == 0, cluster.logs()[-3000:]


@pytest.mark.parametrize("trouble", ["panic", "defect"])
def test_a_film_that_makes_the_certifier_raise_is_set_aside_and_holds_up_nobody(start_cluster, make_film, trouble):
    bad, good = make_film(1), make_film(2)
    cluster = start_cluster(lambda cluster: cluster.folder.joinpath(f"{trouble}-{uid_of(bad)}").touch(), max_attempts=4)
    assert cluster.send(bad, good) == [True, True]
    wait_until(lambda: each_film_once(cluster, [good]), 60, "the healthy film")
    wait_until(lambda: cluster.jobs("failed"), 60, "the end of the bad one")
    (job,) = cluster.jobs("failed")
    assert job.code == "defect"
    assert f"({3 if trouble == 'panic' else 4} times)" in job.reason
    assert "Zwiebelfisch" not in cluster.logs()
    cluster.folder.joinpath(f"{trouble}-{uid_of(bad)}").unlink()
    assert cluster.send(bad) == [True], "who sends it again wants another try"
    wait_until(lambda: each_film_once(cluster, [bad, good]), 60, "the film that was mended")


def test_retries_sleep_outside_the_slot(make_cluster, make_film):
    """The bad film is tried with long pauses; the healthy ones behind it wait no longer than their turn."""
    pause_s = 30.0
    bad, *good = [make_film(number) for number in range(5)]
    cluster = make_cluster(max_attempts=4)
    text = cluster.folder.joinpath("node.toml").read_text(encoding="utf-8")
    cluster.folder.joinpath("node.toml").write_text(text.replace("first_wait_s = 0.1", f"first_wait_s = {pause_s}"), encoding="utf-8")
    cluster.folder.joinpath(f"defect-{uid_of(bad)}").touch()
    cluster.start("node")
    assert cluster.send(bad, *good) == [True] * 5
    started = time.monotonic()
    wait_until(lambda: each_film_once(cluster, good), 60, "the healthy films")
    assert time.monotonic() - started < pause_s, "they waited through a pause of the bad one"
    assert cluster.jobs("queued"), "which is still to be tried"


def test_two_results_that_an_archive_has_no_room_for_hold_up_none_of_the_others(start_cluster, make_film):
    films = [make_film(number) for number in range(10)]
    cluster = start_cluster(archive=refusing(*map(uid_of, films[:2])))
    assert cluster.send(*films) == [True] * 10
    wait_until(lambda: each_film_once(cluster, films[2:]), 60, "the eight others")
    wait_until(lambda: len(cluster.jobs("done")) == 8, 30, "the node's record of them: the archive knows first")
    assert [job.code for job in cluster.jobs("delivering")] == ["", ""]


def test_an_archive_that_never_reports_commitment_holds_up_no_delivery(start_cluster, make_film):
    films = [make_film(number) for number in range(8)]
    cluster = start_cluster(extra="storage_commitment = true")
    assert cluster.send(*films) == [True] * 8
    wait_until(lambda: each_film_once(cluster, films), 60, "all deliveries")
    wait_until(lambda: len(cluster.archive.transactions) >= 8, 60, "a request for each")
    assert len(cluster.jobs("delivering")) == 8


def test_graceful_stops_are_no_attempts(make_cluster, make_film):
    """With one attempt allowed, a single loss would be the end of the film."""
    cluster, film = make_cluster(max_attempts=1, delay_s=30), make_film()
    text = cluster.folder.joinpath("node.toml").read_text(encoding="utf-8")
    cluster.folder.joinpath("node.toml").write_text(text.replace("grace_s = 5.0", "grace_s = 0.2"), encoding="utf-8")
    cluster.start("node")
    assert cluster.send(film) == [True]
    for _ in range(2):
        wait_until(lambda: cluster.jobs("certifying"), 30, "certifying")
        assert cluster.stop("node") == 0, cluster.logs()[-3000:]
        assert cluster.jobs("queued")
        cluster.start("node")
    cluster.stop("node")
    cluster.delay_s = 0
    cluster.start("node")
    wait_until(lambda: each_film_once(cluster, [film]), 60, "delivery")


def test_a_run_that_the_job_queue_has_ended_or_forgotten_is_taken_up(make_cluster, make_film):
    films = [make_film(number) for number in range(3)]
    cluster = make_cluster(delay_s=3)
    cluster.start("node")
    assert cluster.send(*films) == [True] * 3
    database = sqlite3.connect(cluster.state / "node.sqlite", timeout=30)

    def waiting() -> list[str]:
        return [row[0] for row in database.execute("SELECT workflow_uuid FROM workflow_status WHERE status = 'ENQUEUED'")]

    wait_until(lambda: len(waiting()) == 2, 30, "two films behind the first")
    ended, forgotten = waiting()
    with database:
        database.execute("UPDATE workflow_status SET status = 'ERROR' WHERE workflow_uuid = ?", (ended,))
        database.execute("DELETE FROM workflow_status WHERE workflow_uuid = ?", (forgotten,))
    database.close()
    wait_until(lambda: each_film_once(cluster, films), 120, "all three")


@pytest.mark.parametrize("jumps", [(8 * 86400, 31 * 86400, -86400)])
def test_a_clock_that_was_set_loses_and_deletes_nothing_and_is_told(make_cluster, make_film, jumps):
    archive = Archive().start()
    archive.stop()
    done, waiting = make_film(1), make_film(2)
    cluster = make_cluster(archive=archive)
    cluster.start("node")
    archive.start()
    assert cluster.send(done) == [True]
    wait_until(lambda: cluster.jobs("done"), 60, "the first film")
    archive.stop()
    assert cluster.send(waiting) == [True]
    wait_until(lambda: cluster.jobs("delivering"), 60, "the second")
    for number, jump in enumerate(jumps, start=1):
        cluster.folder.joinpath("clock").write_text(str(jump), encoding="ascii")
        wait_until(lambda number=number: cluster.logs().count("the clock of this machine was set") == number, 30, "a line in the log")
        time.sleep(1.5)
        assert len(cluster.jobs("delivering")) == 1
        assert len(list((cluster.state / "results").iterdir())) == 2
    # After a restart, which sweeps, as well.
    assert cluster.stop("node") == 0
    cluster.start("node")
    assert len(list((cluster.state / "results").iterdir())) == 2
    archive.start()
    wait_until(lambda: each_film_once(cluster, [waiting]), 60, "delivery")


def test_a_stat_film_is_certified_before_the_routine_ones_that_wait(make_cluster, make_film):
    *routine, stat = [make_film(number) for number in range(6)]
    cluster = make_cluster(delay_s=1)
    cluster.start("node")
    assert cluster.send(*routine) == [True] * 5
    assert cluster.send(stat, priority=1) == [True]
    wait_until(lambda: each_film_once(cluster, [*routine, stat]), 60, "all")
    order = [
        dcmread(path, stop_before_pixels=True).ReferencedSeriesSequence[0].ReferencedInstanceSequence[0].ReferencedSOPInstanceUID
        for path in sorted((cluster.state / "results").glob("*/seg.dcm"), key=lambda path: path.stat().st_mtime)
    ]
    assert order.index(uid_of(stat)) <= 2, "behind the one that was being certified, and one that began meanwhile at most"


@pytest.mark.slow
def test_on_postgresql_a_worker_that_falls_silent_is_replaced_and_writes_nothing_when_it_wakes(database, make_cluster, make_film):
    cluster, film = make_cluster(database_url=database.url, workers=1, delay_s=2, max_attempts=5), make_film()
    text = cluster.folder.joinpath("node.toml").read_text(encoding="utf-8")
    cluster.start("worker-1", "worker")
    wait_until(lambda: '"message": "started"' in cluster.logs(), 60, "the worker")
    cluster.folder.joinpath("node.toml").write_text(text.replace("workers = 1", "workers = 0"), encoding="utf-8")
    cluster.start("node")
    assert cluster.send(film) == [True]
    wait_until(lambda: cluster.jobs("certifying"), 60, "certifying")
    sleeper = cluster.processes["worker-1"]
    os.kill(sleeper.pid, signal.SIGSTOP)
    cluster.folder.joinpath("node.toml").write_text(text, encoding="utf-8")
    cluster.start("worker-2", "worker")
    wait_until(lambda: each_film_once(cluster, [film]), 120, "delivery by the other")
    requests = cluster.archive.requests
    os.kill(sleeper.pid, signal.SIGCONT)
    time.sleep(6)
    assert cluster.archive.requests == requests, "the sleeper found that its run is no longer its own"
    assert [job.state for job in cluster.jobs()] == ["done"]
    assert not cluster.dead("worker-1")
