"""The queue from outside the node: its ledger and its spool, opened by the node's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration, load_configuration
from certdicom.node.identity import pseudonym, read_site_key
from certdicom.node.store.database import connect
from certdicom.node.store.ledger import Ledger
from certdicom.node.store.spool import Spool


@dataclass(frozen=True)
class OpenQueue:
    """A node's state; `pseudonym_of`: from a SOP Instance UID to the subject of its jobs."""

    configuration: Configuration
    ledger: Ledger
    spool: Spool
    pseudonym_of: Callable[[str], str]


def open_queue(config: Path | None) -> OpenQueue:
    """The state of the node that a configuration file describes. UsageError when there is none, or it cannot be read."""
    configuration = load_configuration(config)
    key = configuration.state_dir / "site.key"
    if not key.exists():
        raise UsageError(f"there is no node's state in {configuration.state_dir}; name the node's configuration with --config")
    ledger = Ledger(connect(configuration.database_url))
    try:
        ledger.require_prepared()
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).splitlines()[0]
        raise UsageError(f"the node's database cannot be read: {reason}") from error
    return OpenQueue(configuration, ledger, Spool(configuration.state_dir), partial(pseudonym, site_key=read_site_key(key)))
