"""What the page shows and does, as it asks a running node for it."""

from __future__ import annotations

from typing import Protocol

from certdicom.node.configuration import Configuration
from certdicom.node.metrics import Metrics
from certdicom.node.receive.scp import StorageScp
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.spool import Spool


class RunningNode(Protocol):
    """The part of `certdicom.node.service.Service` that the page needs."""

    configuration: Configuration
    ledger: Ledger
    spool: Spool
    metrics: Metrics
    scp: StorageScp | None

    def ready(self) -> dict[str, bool]:
        """What must hold for the node to take films, by name."""

    def retry(self, job_id: str) -> None:
        """Retry what failed or was not processed. UsageError when there is nothing to retry."""
