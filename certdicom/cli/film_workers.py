"""Several films at once, each in a process of its own: what is read and written then does not wait for what is computed.

A process is kept for the next film, with its networks. One that ends in the middle of a film costs that film alone. The parent says
by a pipe which film is next, and hears of phases, draws and the outcome.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from certdicom.cli.film_work import Outcome, outcome_of
from certdicom.cli.films import FilmJob
from certdicom.errors import CertdicomError
from certdicom.progress import FilmLine, FilmsProgress

MakeCertifier = Callable[[argparse.Namespace], Any]


def work_in_processes(
    jobs: Sequence[FilmJob], arguments: argparse.Namespace, make_certifier: MakeCertifier, *, processes: int, display: FilmsProgress
) -> Iterator[Outcome]:
    """The outcomes of all films, as they come; `make_certifier` is called in each process, and so must be a module's function.

    A wrong request raises its error. Where the caller stops, or fails, the processes end without leaving half a file.
    """
    todo = deque(jobs)
    workers = [_Worker(arguments, make_certifier) for _ in range(min(processes, len(jobs)))]
    try:
        for worker in workers:
            worker.begin(todo.popleft(), display)
        while busy := [worker for worker in workers if worker.job is not None]:
            ready = wait([worker.connection for worker in busy])
            for worker in busy:
                if worker.connection in ready and (outcome := worker.heard()) is not None:
                    if todo:
                        worker.begin(todo.popleft(), display)
                    yield outcome
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    """A process and the film that it works on."""

    def __init__(self, arguments: argparse.Namespace, make_certifier: MakeCertifier) -> None:
        self._asked = arguments, make_certifier
        self.job: FilmJob | None = None
        self._line: FilmLine | None = None
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # networks and their threads do not survive a fork
        self.connection, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, *self._asked), daemon=True)
        self._process.start()
        theirs.close()

    def begin(self, job: FilmJob, display: FilmsProgress) -> None:
        if not self._process.is_alive():
            self._start()
        self.job, self._line = job, display.film(job.film.name)
        self.connection.send(job)

    def heard(self) -> Outcome | None:
        """The outcome, if this is what the process had to say."""
        job = self.job
        if job is None:
            return None
        try:
            kind, content = self.connection.recv()
        except (EOFError, OSError):
            self._process.join()
            kind, content = "outcome", self._lost(job)
        if kind in ("phase", "draws"):
            getattr(self._line, kind)(*content)
            return None
        if isinstance(content, CertdicomError):
            raise content
        if self._line is not None:
            self._line.end()
        self.job = None
        answer: Outcome = content
        return answer

    def _lost(self, job: FilmJob) -> Outcome:
        code = self._process.exitcode or 0
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return Outcome(
            film=job.film,
            what="internal error",
            detail=f"the process that worked on it ended ({how}); run it alone with --debug",
            exit_code=CertdicomError.exit_code,
        )

    def end(self) -> None:
        self.connection.close()  # which an idle process takes as the end
        if self.job is not None:
            self._process.terminate()
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


class _Remote:
    """What the parent shows of this process's film."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def phase(self, name: str) -> None:
        self._connection.send(("phase", (name,)))

    def draws(self, done: int, total: int) -> None:
        self._connection.send(("draws", (done, total)))

    def end(self) -> None:
        """The outcome says so."""


def _serve(connection: Connection, arguments: argparse.Namespace, make_certifier: MakeCertifier) -> None:
    """One process: films in, outcomes out, until the pipe is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, _stop)
    with contextlib.suppress(EOFError, OSError, SystemExit):
        try:
            certifier = make_certifier(arguments)
            while True:
                job: FilmJob = connection.recv()
                connection.send(("outcome", outcome_of(job, certifier, arguments, _Remote(connection))))
        except CertdicomError as error:
            connection.send(("outcome", error))


def _stop(*_: object) -> None:
    raise SystemExit  # so that files which are being written are taken back
