"""The child process of `pool`, `python -m certdicom.pool_process`: pickles on standard input and output.

It reads what it works with, then job after job, and ends when its standard input does.
"""

from __future__ import annotations

import os
import pickle
import signal
from typing import Any, BinaryIO

from certdicom.pool import portable


class _Pipe:
    """`pool.Parent`: the process that started this one."""

    def __init__(self, hears: BinaryIO, tells: BinaryIO) -> None:
        self._hears, self._tells = hears, tells

    def heard(self) -> Any:
        """The next thing that it says. SystemExit when it says no more."""
        try:
            return pickle.load(self._hears)  # noqa: S301  # whoever started us
        except EOFError:
            raise SystemExit from None

    def tell(self, kind: str, content: object) -> None:
        message = pickle.dumps((kind, content))
        try:
            self._tells.write(message)
            self._tells.flush()
        except BrokenPipeError:
            raise SystemExit from None

    def ask(self, request: object) -> None:
        self.tell("ask", request)
        self.heard()

    def answer(self) -> Any:
        answer = self.heard()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def phase(self, name: str) -> None:
        self.tell("phase", name)

    def draws(self, done: int, total: int) -> None:
        """They are counted where they are made."""

    def end(self) -> None:
        """The outcome says so."""


def main() -> None:
    """Do jobs until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, _stop)
    hears, tells = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # so that no library reads what is meant for us,
    os.dup2(2, 1)  # and none's output is taken for an answer
    parent = _Pipe(hears, tells)
    work = parent.heard()
    while True:
        job = parent.heard()
        try:
            parent.tell("done", work(job, parent))
        except Exception as error:  # noqa: BLE001  # whatever it is, the parent is told
            parent.tell("failed", portable(error))


def _stop(*_: object) -> None:
    raise SystemExit  # so that files which are being written are taken back


if __name__ == "__main__":
    main()
