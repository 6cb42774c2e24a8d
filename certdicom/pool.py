"""Jobs in processes of their own, while what only this process can do is done here: films are read and written there, and certified here.

A process takes one job after the other and may ask for something to be computed here, where one thing is computed at a time, or several
that were asked for meanwhile. At most twice as many jobs are under way, or done and not yet fetched, as there are processes. A process
that ends in the middle of a job costs that job alone. `pool_process` is the child.
"""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from queue import SimpleQueue
from threading import Condition, Event, Lock, Thread
from typing import Any, Final, Protocol, TypeVar

from certdicom.errors import CertdicomError, one_line
from certdicom.models.backends.cores import cores
from certdicom.progress import FilmLine

Job = TypeVar("Job")
Answer = TypeVar("Answer")

_COMMAND: Final = (sys.executable, "-P", "-m", "certdicom.pool_process")
_MOST: Final = 16
_END_S: Final = 10.0


class ProcessEndedError(CertdicomError):
    """The process ended in the middle of its job."""


class Parent(FilmLine, Protocol):
    """The process that a job came from, as the job sees it."""

    def ask(self, request: object) -> None:
        """Ask for something to be computed there; returns when it is begun."""

    def answer(self) -> Any:
        """What was asked for; raises what went wrong."""


class Server(Protocol):
    """What is computed in this process, in one thread."""

    def load(self) -> int:
        """Make ready, and say how many requests may be computed together."""

    def serve(self, requests: Sequence[Any], progress: Callable[[int, int], None]) -> Sequence[Any]:
        """The answer to each request, or its error; what is raised is the error of all."""


def usual_processes() -> int:
    """How many processes keep a device busy: one a core, at least one to read the next film while the last one is written."""
    return max(2, min(cores(), _MOST))


def work_in_processes(
    jobs: Iterable[Job],
    work: Callable[[Job, Parent], Answer],
    server: Server,
    *,
    processes: int,
    line: Callable[[Job], FilmLine],
    in_order: bool = True,
) -> Generator[tuple[Job, Answer | Exception], None, None]:
    """Each job with what `work` returns for it in another process, or its error, in the order of the jobs or as they come.

    `work`, the jobs and the answers are pickled; `line` makes what is shown of a job, from the thread that begins it. When the generator
    is closed, which whoever may fail must see to (`contextlib.closing`), the processes end without leaving half a file.
    """
    pickled = pickle.dumps(work)
    computing = _Computing(server)
    todo: SimpleQueue[tuple[int, Job] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    members: list[_Member] = []
    going: dict[int, Job] = {}
    came: dict[int, Any] = {}
    coming, following = enumerate(jobs), 0
    try:
        while True:
            while len(going) < 2 * processes and (entry := next(coming, None)) is not None:
                going[entry[0]] = entry[1]
                todo.put(entry)
                if len(members) < min(processes, len(going)):
                    members.append(_Member(pickled, computing, todo, done, line))
            if not going:
                return
            if not in_order or following not in came:
                index, answer = done.get()
                came[index] = answer
            for index in [following] if in_order else list(came):
                if index in came:
                    following += 1
                    yield going.pop(index), came.pop(index)
    finally:
        computing.close()
        for member in members:
            member.stop()
            todo.put(None)
        for member in members:
            member.join()
        computing.join()


def portable(error: Exception) -> Exception:
    """The error as one that another process can take over, with a note of where it was raised."""
    error.add_note("".join(traceback.format_exception(error)))
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    except Exception:  # noqa: BLE001  # whatever a class of somebody else's does when it is copied
        return RuntimeError(f"{type(error).__name__}: {one_line(error)}")
    return error


class _Asked:
    """A request on its way."""

    def __init__(self, request: object, line: FilmLine) -> None:
        self.request, self.line = request, line
        self.begun, self.over = Event(), Event()
        self.answer: Any = None

    def end(self, answer: object) -> None:
        self.answer = answer
        self.begun.set()
        self.over.set()


class _StoppedError(Exception):
    """The caller wants no more of it."""


class _Computing:
    """The server, and the thread in which it computes what the processes ask for."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._waiting: deque[_Asked] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name="certdicom-computing", daemon=True)
        self._thread.start()

    def ask(self, asked: _Asked) -> None:
        with self._changed:
            if self._closed:
                asked.end(_StoppedError())
                return
            self._waiting.append(asked)
            self._changed.notify()

    def close(self) -> None:
        """Compute nothing more; what is being computed ends with its next batch."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self) -> None:
        self._thread.join()

    def _run(self) -> None:
        failed: Exception | None = None
        together = 1
        try:
            together = self._server.load()
        except Exception as error:  # noqa: BLE001  # told to each who asks
            failed = portable(error)
        while chosen := self._chosen(together):
            answers: Sequence[Any]
            try:
                answers = self._answers(chosen) if failed is None else [failed] * len(chosen)
            except Exception as error:  # noqa: BLE001  # theirs who asked
                answers = [error] * len(chosen)
            for asked, answer in zip(chosen, answers, strict=True):
                asked.end(portable(answer) if isinstance(answer, Exception) and answer is not failed else answer)
        for asked in self._waiting:
            asked.end(_StoppedError())

    def _chosen(self, together: int) -> list[_Asked]:
        """Those that were asked for first; nothing when it is over."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            return [] if self._closed else [self._waiting.popleft() for _ in range(min(together, len(self._waiting)))]

    def _answers(self, chosen: Sequence[_Asked]) -> Sequence[Any]:
        for asked in chosen:
            asked.begun.set()
        return self._server.serve([asked.request for asked in chosen], lambda done, total: self._moved(chosen, done, total))

    def _moved(self, chosen: Sequence[_Asked], done: int, total: int) -> None:
        if self._closed:
            raise _StoppedError
        for asked in chosen:
            asked.line.draws(done // len(chosen), total // len(chosen))


class _Member:
    """A process, and the thread that hands it one job after the other and hears what it has to say."""

    def __init__(
        self,
        work: bytes,
        computing: _Computing,
        todo: SimpleQueue[tuple[int, Any] | None],
        done: SimpleQueue[tuple[int, Any]],
        line: Callable[[Any], FilmLine],
    ) -> None:
        self._work, self._computing, self._todo, self._done, self._line = work, computing, todo, done, line
        self._process: subprocess.Popen[bytes] | None = None
        self._starting = Lock()
        self._stopped = False
        self._thread = Thread(target=self._run, name="certdicom-member", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        if hasattr(signal, "pthread_sigmask"):  # Ctrl-C is this process's to answer; the children inherit the mask
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        while (entry := self._todo.get()) is not None:
            index, job = entry
            answer: Any
            try:
                line = self._line(job)
                try:
                    answer = self._worked(job, line)
                finally:
                    line.end()
            except Exception as error:  # noqa: BLE001  # the caller's to judge
                answer = error
            self._done.put((index, answer))

    def stop(self) -> None:
        """End the process at once; files that it is writing are taken back."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.terminate()

    def join(self) -> None:
        if self._process is not None:
            self._how_it_ended()
        self._thread.join()
        self._drop()

    def _worked(self, job: object, line: FilmLine) -> Any:
        content = pickle.dumps(job)
        try:
            process = self._ready()
            _say(process, content)
            while True:
                kind, content = pickle.load(_stream(process.stdout))  # noqa: S301  # a child of ours
                if kind == "phase":
                    line.phase(content)
                elif kind == "ask":
                    self._answer(process, _Asked(content, line))
                else:
                    return content
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise ProcessEndedError(f"the process that worked on it ended ({self._how_it_ended()})") from error

    def _answer(self, process: subprocess.Popen[bytes], asked: _Asked) -> None:
        self._computing.ask(asked)
        asked.begun.wait()
        _say(process, pickle.dumps(None))
        asked.over.wait()
        _say(process, pickle.dumps(asked.answer))

    def _ready(self) -> subprocess.Popen[bytes]:
        """The process, which knows what it works with."""
        with self._starting:
            if self._stopped:
                raise OSError("nothing more is begun")
            if self._process is None or self._process.poll() is not None:
                self._drop()
                self._process = subprocess.Popen(_COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # noqa: S603  # ourselves
                _say(self._process, self._work)
            return self._process

    def _how_it_ended(self) -> str:
        if self._process is None:
            return "before it began"
        try:
            code = self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _drop(self) -> None:
        for stream in () if self._process is None else (self._process.stdin, self._process.stdout):
            try:
                _stream(stream).close()
            except OSError:  # what the child was not told any more
                continue


def _say(process: subprocess.Popen[bytes], content: bytes) -> None:
    stream = _stream(process.stdin)
    stream.write(content)
    stream.flush()


def _stream(stream: Any) -> Any:
    if stream is None:
        raise OSError("not a child of ours")
    return stream
