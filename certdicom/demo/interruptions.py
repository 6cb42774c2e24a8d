"""Defer SIGINT and SIGTERM in critical sections."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Signals to end wait until the block is left, also by an error. For the main thread, and for blocks that end by themselves.

    An exception out of a signal handler can fall between any two steps: a program is started and nobody knows its process, or
    pynetdicom's network thread runs and nobody has the association that would end it, so that Python waits for that thread for ever.
    """
    arrived: list[int] = []

    def keep(number: int, frame: object) -> None:
        del frame
        arrived.append(number)

    # What is ignored stays so, in programs that are started here too.
    ends = [number for number in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, keep) for number in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if arrived:
            signal.raise_signal(arrived[0])
