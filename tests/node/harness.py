"""Runs `certdicom node` or `certdicom worker` with a certifier that costs nothing, and dies by SIGKILL where a test says so.

    python harness.py node|worker KILL_DIR

A file in KILL_DIR named like a boundary below kills the process that next comes there; the file is removed first, so it kills once.
`panic-UID` and `defect-UID` let the certifier fail at that film as long as they are there; `clock` has the seconds by which time.time
is wrong; HARNESS_DELAY_S is how long certifying takes.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fakes import CopyingCertifier
from pydicom import dcmread

BOUNDARIES = (
    "received", "entered", "handed over", "enqueued", "begun", "certifying", "made", "written", "ending", "ended", "sending", "sent",
    "cleaning",
)  # fmt: skip


class PanicError(BaseException):
    """As pyo3's PanicException: no Exception."""


def set_clock(offset: Path) -> None:
    """Let time.time be wrong by the seconds that stand in a file, while it is there."""
    real_time = time.time

    def wrong_time() -> float:
        try:
            return real_time() + float(offset.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return real_time()

    time.time = wrong_time


def main() -> int:
    role, kill_dir = sys.argv[1], Path(sys.argv[2])
    set_clock(kill_dir / "clock")

    def boundary(name: str) -> None:
        try:
            (kill_dir / name).unlink()
        except FileNotFoundError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    def before(owner: object, method: str, name: str) -> None:
        original = getattr(owner, method)

        def changed(*arguments, **options):
            boundary(name)
            return original(*arguments, **options)

        setattr(owner, method, changed)

    def after(owner: object, method: str, name: str) -> None:
        original = getattr(owner, method)

        def changed(*arguments, **options):
            result = original(*arguments, **options)
            boundary(name)
            return result

        setattr(owner, method, changed)

    from certdicom.node import service
    from certdicom.node.deliver import delivery
    from certdicom.node.store import ledger, spool, steps
    from certdicom.node.work import supervisor, tasks

    def certifying(film: Path) -> None:
        boundary("certifying")
        time.sleep(float(os.environ.get("HARNESS_DELAY_S", "0")))
        uid = dcmread(film, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
        if (kill_dir / f"panic-{uid}").exists():
            raise PanicError("called `Result::unwrap()` on an `Err` value")
        if (kill_dir / f"defect-{uid}").exists():
            raise ValueError("Zwiebelfisch^Querulant")

    service.PipelineCertifier = lambda *_: None
    service.IsolatedCertifier = lambda *_: CopyingCertifier(kill_dir, certifying)
    before(ledger.Ledger, "enter", "received")
    after(ledger.Ledger, "enter", "entered")
    after(steps.Steps, "hand_over", "handed over")
    after(supervisor.Supervisor, "hand_over", "enqueued")
    after(steps.Steps, "begin", "begun")
    before(spool.Spool, "adopt", "made")
    after(spool.Spool, "adopt", "written")
    before(steps.Steps, "finish", "ending")
    after(steps.Steps, "finish", "ended")
    before(delivery, "send", "sending")
    after(delivery, "send", "sent")
    before(tasks.Tasks, "clean", "cleaning")

    from certdicom.cli.main import main as certdicom

    return certdicom([role, "--config", str(kill_dir / "node.toml")])


if __name__ == "__main__":
    sys.exit(main())
