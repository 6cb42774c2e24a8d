"""Between ledger and job queue: enqueues what the ledger says, in the same words after every restart."""

from __future__ import annotations

import threading
from typing import Final

from certdicom.node.store.ledger import Ledger
from certdicom.node.store.records import OutboxEntry
from certdicom.node.work.jobs.port import JobQueue

CERTIFY_QUEUE = "certify"
_AT_ONCE: Final = 50


def delivery_queue(destination: str) -> str:
    """The name of a destination's own queue."""
    return f"deliver:{destination}"


class Dispatcher:
    """Hands orders to the job queue and marks them as told; telling twice does no harm."""

    def __init__(self, ledger: Ledger, job_queue: JobQueue, destinations: tuple[str, ...]) -> None:
        self._ledger, self._job_queue, self._destinations = ledger, job_queue, destinations
        self.nudged = threading.Event()

    def nudge(self) -> None:
        """Have everything told soon, by housekeeping: senders need not wait for it, and steps must not speak to the job queue."""
        self.nudged.set()

    def tell_all(self) -> int:
        """Tell everything that has not been told; returns how much there was."""
        # What is for a destination that is not configured stays outbox until it is again; `certdicom doctor` names it.
        orders = [order for order in self._ledger.outbox() if order.destination is None or order.destination in self._destinations]
        for start in range(0, len(orders), _AT_ONCE):
            some = orders[start : start + _AT_ONCE]
            for order in some:
                self._tell(order)
            self._ledger.mark_enqueued(some)
        return len(orders)

    def _tell(self, order: OutboxEntry) -> None:
        if order.destination is None:
            self._job_queue.enqueue(CERTIFY_QUEUE, order.run_id, order.job_id)
        else:
            self._job_queue.enqueue(delivery_queue(order.destination), order.run_id, f"{order.job_id} {order.destination}")
