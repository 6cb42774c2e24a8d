"""Jobs in processes while one thing at a time is computed in this one: order, errors, overlap, bounds, and an end without leftovers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from certdicom.pool import ProcessEndedError, work_in_processes
from certdicom.progress import NoLine
from tests.pool_work import Tell, misbehave

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]))


class Server:
    """Doubles, after whatever is to happen before; notes what it was asked together."""

    def __init__(self, *, together: int = 1, before: Callable[[Sequence[int]], object] = lambda _: None) -> None:
        self.served: list[list[int]] = []
        self._together, self._before = together, before

    def load(self) -> int:
        return self._together

    def serve(self, requests: Sequence[int], progress: Callable[[int, int], None]) -> list[int]:
        self._before(requests)
        self.served.append(list(requests))
        progress(len(requests), 4 * len(requests))
        return [2 * request for request in requests]


class Line(NoLine):
    """Notes what is shown of a job."""

    def __init__(self, shown: list[Any], job: int) -> None:
        self._shown, self._job = shown, job

    def phase(self, name: str) -> None:
        self._shown.append((self._job, name))

    def draws(self, done: int, total: int) -> None:
        self._shown.append((self._job, f"{done} of {total}"))

    def end(self) -> None:
        self._shown.append((self._job, "end"))


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("in_order", [True, False])
def test_each_job_has_its_answer_or_its_error(in_order: bool) -> None:
    shown: list[Any] = []
    pairs = work_in_processes(range(7), misbehave, Server(), processes=2, line=lambda job: Line(shown, job), in_order=in_order)
    order, found = [], {}
    for job, answer in pairs:
        order.append(job)
        found[job] = answer
    assert sorted(order) == list(range(7))
    assert (order == sorted(order)) is in_order
    assert {job: found[job][0] for job in (0, 1, 5, 6)} == {0: 0, 1: 2, 5: 10, 6: 12}
    assert isinstance(found[2], ValueError)
    assert "tests/pool_work.py" in found[2].__notes__[0], "where it was raised"
    assert str(found[3]) == "OddError: three and more"
    assert isinstance(found[4], ProcessEndedError)
    assert f"signal {int(signal.SIGABRT)}" in str(found[4])
    assert [what for job, what in shown if job == 1] == ["reading", "1 of 4", "end"]
    assert [what for job, what in shown if job == 4] == ["reading", "end"]
    assert not any(lives(found[job][1]) for job in (0, 1, 5, 6))


def test_the_next_job_is_read_and_the_last_one_written_while_one_is_computed(tmp_path: Path) -> None:
    """It would wait in vain, if one of them waited for it."""

    def before(requests: Sequence[int]) -> None:
        done = len(server.served)
        wait_for(lambda: len(list(tmp_path.glob("read *"))) >= min(6, done + 2))
        wait_for(lambda: len(list(tmp_path.glob("written *"))) == done)

    server = Server(before=before)
    pairs = work_in_processes(range(6), Tell(tmp_path), server, processes=2, line=lambda _: NoLine())
    assert [answer for _, answer in pairs] == [0, 2, 4, 6, 8, 10]


def test_what_is_asked_for_meanwhile_is_computed_together(tmp_path: Path) -> None:
    def before(requests: Sequence[int]) -> None:
        if not server.served:
            wait_for(lambda: len(list(tmp_path.glob("read *"))) == 3)
            time.sleep(0.5)  # until they have asked

    server = Server(together=2, before=before)
    pairs = work_in_processes(range(3), Tell(tmp_path), server, processes=3, line=lambda _: NoLine())
    assert [answer for _, answer in pairs] == [0, 2, 4]
    assert len(server.served) == 2
    assert sorted(map(len, server.served)) == [1, 2]


def test_jobs_are_taken_no_sooner_than_there_is_somebody_for_them() -> None:
    taken: list[int] = []

    def jobs() -> Iterator[int]:
        for job in range(10, 30):
            taken.append(job)
            yield job

    pairs = work_in_processes(jobs(), misbehave, Server(), processes=2, line=lambda _: NoLine())
    assert taken == []
    for count, _ in enumerate(pairs):
        assert len(taken) <= count + 4


def test_who_stops_leaves_no_process_behind() -> None:
    """Neither idle ones nor those in the middle of something, and what is computed ends with its next batch."""

    class Endless(Server):
        def serve(self, requests: Sequence[int], progress: Callable[[int, int], None]) -> list[int]:
            while len(self.served) == 2:
                time.sleep(0.01)
                progress(0, 1)
            return super().serve(requests, progress)

    pairs = work_in_processes(range(10, 20), misbehave, Endless(), processes=2, line=lambda _: NoLine(), in_order=False)
    pids = [next(pairs)[1][1] for _ in range(2)]
    started = time.monotonic()
    pairs.close()
    assert time.monotonic() - started < 8
    assert not any(map(lives, pids))


def test_an_error_of_the_server_is_the_error_of_who_asked() -> None:
    class Broken(Server):
        def load(self) -> int:
            raise MemoryError("no room")

    pairs = list(work_in_processes([10, 11], misbehave, Broken(), processes=2, line=lambda _: NoLine()))
    assert [(job, type(answer), str(answer)) for job, answer in pairs] == [(10, MemoryError, "no room"), (11, MemoryError, "no room")]


def test_work_that_cannot_be_copied_is_an_error_at_once() -> None:
    with pytest.raises((AttributeError, TypeError)):
        next(work_in_processes([1], lambda job, _: job, Server(), processes=2, line=lambda _: NoLine()))


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in Linux's way")
def test_processes_end_with_the_one_that_started_them_however_that_ends(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import time\nfrom pathlib import Path\nfrom tests.pool_work import Tell\nfrom certdicom.pool import work_in_processes\n"
        "from certdicom.progress import NoLine\n"
        "class Slow:\n    load = lambda self: 1\n    serve = lambda self, requests, progress: time.sleep(1000)\n"
        f"for _ in work_in_processes(range(4), Tell(Path({str(tmp_path)!r})), Slow(), processes=2, line=lambda _: NoLine()): pass\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], start_new_session=True)
    wait_for(lambda: len(list(tmp_path.glob("read *"))) == 2)
    process.kill()
    process.wait()
    wait_for(lambda: not subprocess.run(["ps", "-o", "pid=", "--sid", str(process.pid)], capture_output=True, check=False).stdout)
