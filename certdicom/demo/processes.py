"""Programs that are started, waited for and ended, each by its own process."""

# ruff: noqa: S310 -- every address is one that this process itself opened on this machine

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from certdicom.demo.interruptions import held_back
from certdicom.errors import CertdicomError, one_line

_END_S = 20.0


class ProgramError(CertdicomError):
    """A program that the demonstration needs ended, or did not answer."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A program, its output in `log`, that is ended and waited for when the block is left.

    It has a session of its own, so that Ctrl-C reaches it through us and in order. ProgramError when it cannot be started.
    """
    process: subprocess.Popen[bytes] | None = None
    with log.open("wb") as stream:
        try:
            with held_back():
                process = _start(command, stream, environment)
            yield process
        finally:
            if process is not None:
                with held_back():
                    _end(process)


def _start(command: Sequence[str], stream: IO[bytes], environment: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(  # noqa: S603  # programs of ours, with arguments of ours
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=dict(environment) if environment is not None else None,
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramError(f"{command[0]} cannot be started: {error.strerror}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wait_for(url: str, *, process: subprocess.Popen[bytes], log: Path, seconds: float = 90) -> None:
    """Return once `url` answers. ProgramError when the program ends before, or `seconds` pass."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        require_alive(process, log=log)
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.3)
    raise ProgramError(f"{url} did not answer within {seconds:g} s; is the machine overloaded?")


def require_alive(process: subprocess.Popen[bytes], *, log: Path) -> None:
    """ProgramError, with the last line of its log, when the program has ended."""
    if process.poll() is not None:
        lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()]
        name = Path(str(process.args[0] if isinstance(process.args, list) else process.args)).name
        last = one_line(ValueError(lines[-1]))[:300] if lines else "nothing"
        raise ProgramError(f"{name} ended with {process.returncode}; the last that it said: {last}")
