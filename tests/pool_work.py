"""What the processes of `test_pool` do, in a module that they can import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from certdicom.pool import Parent


class OddError(Exception):
    """An error that cannot be copied."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} {two}")


def misbehave(job: int, parent: Parent) -> tuple[int, int]:
    """Twice the job, from the parent, with the process; some jobs fail."""
    parent.phase("reading")
    if job == 0:
        time.sleep(0.2)  # the others are faster
    if job == 2:
        raise ValueError("two")
    if job == 3:
        raise OddError("three", "and more")
    if job == 4:
        os.abort()
    print("what a library prints is no answer")
    parent.ask(job)
    return int(parent.answer()), os.getpid()


class Tell:
    """Says by files in a folder that a job was read, and that it was written."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, job: int, parent: Parent) -> Any:
        (self._folder / f"read {job}").touch()
        parent.ask(job)
        answer = parent.answer()
        (self._folder / f"written {job}").touch()
        return answer
