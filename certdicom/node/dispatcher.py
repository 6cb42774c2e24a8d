"""Between ledger and engine: tells the engine what the ledger says, in the same words after every restart."""

from __future__ import annotations

import threading

from certdicom.node.jobs.port import JobEngine
from certdicom.node.ledger import Ledger, Order

CERTIFY_QUEUE = "certify"


def delivery_queue(destination: str) -> str:
    """The name of a destination's own queue."""
    return f"deliver:{destination}"


class Dispatcher:
    """Hands orders to the engine and marks them as told; telling twice does no harm."""

    def __init__(self, ledger: Ledger, engine: JobEngine, destinations: tuple[str, ...]) -> None:
        self._ledger, self._engine, self._destinations = ledger, engine, destinations
        self.nudged = threading.Event()

    def nudge(self) -> None:
        """Have everything told soon, by another thread: an engine must not be spoken to from inside a step."""
        self.nudged.set()

    def tell(self, job_id: str) -> None:
        """Tell what there is to do about one job."""
        for order in self._ledger.untold(job_id):
            self._tell(order)

    def tell_all(self) -> int:
        """Tell everything that has not been told; returns how much there was."""
        orders = self._ledger.untold()
        for order in orders:
            self._tell(order)
        return len(orders)

    def _tell(self, order: Order) -> None:
        if order.destination is None:
            self._engine.enqueue(CERTIFY_QUEUE, order.run_id, order.job_id)
        elif order.destination in self._destinations:
            self._engine.enqueue(delivery_queue(order.destination), order.run_id, f"{order.job_id} {order.destination}")
        else:
            return  # stays untold until the destination is configured again; `certdicom doctor` names it
        self._ledger.mark_told(order)
