"""kill -9 at every boundary between steps: every film that was answered with 0x0000 ends as exactly one SEG in the archive."""

from __future__ import annotations

import contextlib
import os
import random
import threading
from pathlib import Path

import pytest
from fakes import Archive, wait_until
from harness import BOUNDARIES
from processes import Cluster, PostgreSql, each_film_once, full, segmentations, shuffled, small_disk
from pydicom import dcmread

from certdicom.node.settings import SETTINGS

AT_RECEIPT = ("received", "entered", "handed over", "enqueued")


@pytest.fixture
def make_shared(database, make_cluster):
    """A node and two workers that have their jobs in PostgreSQL, started."""

    def make(**options) -> Cluster:
        cluster = make_cluster(database_url=database.url, workers=1, **options)
        for name, role in (("node", "node"), ("worker-1", "worker"), ("worker-2", "worker")):
            cluster.start(name, role)
        return cluster

    return make


def start_again(cluster: Cluster) -> None:
    """Start every process that is dead."""
    for name in [name for name in cluster.processes if cluster.dead(name)]:
        cluster.start(name, "node" if name == "node" else "worker")


def somebody_dies(cluster: Cluster, boundary: str) -> None:
    wait_until(lambda: any(map(cluster.dead, cluster.processes)), 120, f"death at {boundary}")


def die_and_recover(cluster: Cluster, boundary: str, film) -> None:
    """Send a film into a node that dies at `boundary`, start it again, and send again until it is acknowledged."""
    cluster.arm(boundary)
    (acknowledged,) = cluster.send(film)
    wait_until(lambda: cluster.dead("node"), 120, f"death at {boundary}")
    assert not cluster.armed(boundary)
    cluster.start("node")
    while not acknowledged:
        (acknowledged,) = cluster.send(film)


def test_a_node_that_is_killed_after_sending_delivers_once_and_ends_well_on_sigterm(make_cluster, make_film):
    cluster, film = make_cluster(), make_film()
    cluster.start("node")
    die_and_recover(cluster, "sent", film)
    wait_until(lambda: each_film_once(cluster, [film]), what="delivery")
    assert len(cluster.archive.received) >= 1
    assert cluster.stop("node") == 0, cluster.logs()[-4000:]
    assert '"message": "stopped"' in cluster.logs()
    # The job queue's own tables are searched here: tests with the job queue in memory have none.
    written = cluster.logs().encode() + b"".join(path.read_bytes() for path in (cluster.folder / "state").glob("node.sqlite*"))
    assert len(written) > 10_000
    private = ("Zwiebelfisch", "Querulant", "PID_4711_SECRET", "19530217", str(dcmread(film).SOPInstanceUID))
    assert [word for word in private if word.encode() in written] == []


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_more_than_fifty_kills_of_a_node_lose_nothing_and_double_nothing(make_cluster, make_film):
    cluster = make_cluster()
    cluster.start("node")
    films, moments = [], random.Random(11)  # noqa: S311  # moments that can be repeated
    for number, boundary in enumerate(shuffled((*BOUNDARIES, "some moment"), 60, seed=7)):
        films.append(make_film(number))
        if boundary != "some moment":
            die_and_recover(cluster, boundary, films[-1])
            continue
        killer = threading.Timer(moments.uniform(0.05, 1.5), cluster.kill, ["node"])
        killer.start()
        (acknowledged,) = cluster.send(films[-1])
        killer.join()
        cluster.start("node")
        while not acknowledged:
            (acknowledged,) = cluster.send(films[-1])
    wait_until(lambda: each_film_once(cluster, films), 300, "delivery of all films")
    assert len(cluster.segmentations()) == len(films) == 60
    assert sum(len(uids) for uids in cluster.segmentations().values()) == 60


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_on_postgresql_another_worker_takes_over_what_a_killed_one_had(make_shared, make_film):
    cluster = make_shared()
    films = []
    at_work = tuple(boundary for boundary in BOUNDARIES if boundary not in AT_RECEIPT)
    for number, boundary in enumerate(shuffled(at_work, 8, seed=3)):
        film = make_film(number)
        cluster.arm(boundary)
        assert cluster.send(film) == [True]
        films.append(film)
        somebody_dies(cluster, boundary)
        # Nobody is started again before the others have finished the dead one's work.
        if not cluster.dead("node"):
            wait_until(lambda: each_film_once(cluster, films), 90, "take-over")
        start_again(cluster)
    wait_until(lambda: each_film_once(cluster, films), 120, "delivery of all films")
    assert len(cluster.segmentations()) == len(films)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_on_postgresql_a_kill_at_receipt_loses_and_doubles_nothing(make_shared, make_film):
    cluster = make_shared()
    films = [make_film(number) for number in range(2 * len(AT_RECEIPT))]
    for boundary, film in zip(shuffled(AT_RECEIPT, len(films), seed=5), films, strict=True):
        cluster.arm(boundary)
        (acknowledged,) = cluster.send(film)
        # The job queue may be told by any process, so that at "enqueued" a worker may be the one that dies.
        somebody_dies(cluster, boundary)
        start_again(cluster)
        while not acknowledged:
            (acknowledged,) = cluster.send(film)
    wait_until(lambda: each_film_once(cluster, films), 120, "delivery of all films")
    assert len(cluster.segmentations()) == len(films)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_with_its_default_patience_another_worker_takes_over_within_90_seconds(make_shared, make_film):
    (patience,) = (setting.default for setting in SETTINGS if setting.key == "jobs.stale_after_s")
    cluster, film = make_shared(stale_after_s=patience), make_film()
    cluster.arm("made")
    assert cluster.send(film) == [True]
    somebody_dies(cluster, "made")
    assert not each_film_once(cluster, [film])
    wait_until(lambda: each_film_once(cluster, [film]), 90, "take-over")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_restart_of_postgresql_is_survived_and_told(database, make_cluster, make_film):
    cluster = make_cluster(database_url=database.url)
    cluster.start("node")
    first, second, third = make_film(1), make_film(2), make_film(3)
    assert cluster.send(first) == [True]
    database.stop()
    assert cluster.send(second) == [False]
    database.start()
    while cluster.send(third) != [True]:
        pass
    assert cluster.send(second) == [True]
    wait_until(lambda: each_film_once(cluster, [first, second, third]), 180, "delivery")
    assert "could not be stored" in cluster.logs()


def in_trouble(trouble: str, stack: contextlib.ExitStack, disk: Path, other: Archive, database: PostgreSql | None) -> None:
    """Let something be wrong until `stack` is closed."""
    if trouble == "disk full":
        stack.enter_context(full(disk))
    elif trouble == "archive down":
        other.stop()
        stack.callback(other.start)
    elif trouble == "database down" and database is not None:
        database.stop()
        stack.callback(database.start)


def kill_in_trouble(cluster: Cluster, boundary: str, moments: random.Random) -> None:
    """Let a process die at a boundary, or, where none comes there, somewhere."""
    cluster.arm(boundary)
    with contextlib.suppress(AssertionError):
        wait_until(lambda: any(map(cluster.dead, cluster.processes)), 6, "a death")
    cluster.folder.joinpath(boundary).unlink(missing_ok=True)
    if not any(map(cluster.dead, cluster.processes)):
        cluster.kill(moments.choice(sorted(cluster.processes)))


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_random_kills_with_full_disks_and_dead_archives_and_databases_lose_and_double_nothing(
    request, make_cluster, make_film, tmp_path, kind
):
    """CERTDICOM_KILLS sets how many; two films each."""
    count, moments = int(os.environ.get("CERTDICOM_KILLS", "6")), random.Random(23)  # noqa: S311  # moments that can be repeated
    database = request.getfixturevalue("database") if kind == "postgresql" else None
    other, films, owed = Archive().start(), [], []
    troubles = ("none", "archive down", "disk full" if database is None else "database down")
    with small_disk(tmp_path / "disk", 96) as disk:
        cluster = make_cluster(
            state=disk / "state",
            database_url=database.url if database else "",
            extra=f'[[destination]]\nae_title = "OTHER"\nport = {other.port}',
        )
        cluster.start("node")
        for name in ("worker-1", "worker-2") if database else ():
            cluster.start(name, "worker")
        plan = zip(shuffled(BOUNDARIES, count, seed=9), shuffled(troubles, count, seed=13), strict=True)
        for number, (boundary, trouble) in enumerate(plan):
            films += (pair := [make_film(2 * number), make_film(2 * number + 1)])
            owed += pair
            with contextlib.ExitStack() as stack:
                if moments.random() < 0.5:
                    owed = [film for film, taken in zip(owed, cluster.send(*owed), strict=True) if not taken]
                in_trouble(trouble, stack, disk, other, database)
                owed = [film for film, taken in zip(owed, cluster.send(*owed), strict=True) if not taken] if owed else []
                kill_in_trouble(cluster, boundary, moments)
            start_again(cluster)
        while owed:
            owed = [film for film, taken in zip(owed, cluster.send(*owed), strict=True) if not taken]
        for archive in (cluster.archive, other):
            wait_until(lambda archive=archive: each_film_once(cluster, films, archive), 180, "delivery of all films")
            assert len(segmentations(archive)) == len(films) == 2 * count
        wait_until(lambda: len(cluster.jobs("done")) == len(films), 60, "all rows")
        twice = sum(len(archive.received) - len(films) for archive in (cluster.archive, other))
        print(f"\n{count} kills, {len(films)} films, 2 archives on {kind}: each once; {twice} were sent again with the same bytes")
        cluster.stop_all()
    other.stop()
