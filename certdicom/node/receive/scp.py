"""The storage SCP: which services, syntaxes and limits are offered, and where instances go."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any, Final

from pydicom.uid import (
    JPEG2000,
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)
from pynetdicom import AllStoragePresentationContexts, evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]  # pynetdicom makes its names at run time

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration
from certdicom.node.deliver import commitment
from certdicom.node.metrics import Metrics
from certdicom.node.receive.association_server import BoundedServer
from certdicom.node.receive.commitment_scp import CommitmentScp
from certdicom.node.receive.incoming import Incoming
from certdicom.node.receive.receiving import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, Instance, Receiver
from certdicom.node.store.records import LOW, ROUTINE, STAT
from certdicom.node.tls import server_context
from certdicom.outputs.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

LOG = logging.getLogger("certdicom.node.receive.scp")

_ABORT_S: Final = 1.0
_PRIORITIES: Final = {0x0001: STAT, 0x0000: ROUTINE, 0x0002: LOW}
"""Of a C-STORE request: HIGH, MEDIUM and LOW (PS3.7 table 9.3-1)."""

TRANSFER_SYNTAXES: Final = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLosslessSV1,
    JPEGLossless,
    RLELossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEG2000,
    JPEGLSNearLossless,
    ExplicitVRBigEndian,
)
"""Accepted in every storage presentation context. Deflated is not: a small data set could swell beyond every limit."""


def storage_sop_classes() -> tuple[UID, ...]:
    """SOP classes that are accepted for storage; those that are not certified are stored, not processed."""
    return tuple(UID(context.abstract_syntax) for context in AllStoragePresentationContexts if context.abstract_syntax)


class StorageScp:
    """Listens, and hands each instance to a `Receiver`."""

    def __init__(
        self,
        configuration: Configuration,
        receiver: Receiver,
        reported: commitment.Reported,
        commitment_scp: CommitmentScp,
        metrics: Metrics,
    ) -> None:
        """`reported`: takes commitment reports; `commitment_scp`: requests for them."""
        self._configuration, self._receiver, self._reported, self._metrics = configuration, receiver, reported, metrics
        self._commitment_scp = commitment_scp
        self._entity = _entity(configuration)
        self._server: BoundedServer | None = None

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None:
            raise RuntimeError("the SCP was not started")
        return int(self._server.server_address[1])

    @property
    def listening(self) -> bool:
        return self._server is not None

    def start(self) -> None:
        """Begin to listen. UsageError when the address cannot be used or a TLS file is wrong."""
        host, port = self._configuration.node.host, self._configuration.node.port
        if self._configuration.uses_tls:
            server_context(self._configuration)  # says at once what is wrong with the files
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _: 0x0000),
            (evt.EVT_N_EVENT_REPORT, lambda event: commitment.answer(event, self._reported)),
            (evt.EVT_N_ACTION, self._commitment_scp.request),
            (evt.EVT_REJECTED, lambda _: self._metrics.rejected.labels(reason="association").inc()),
        ]
        try:
            server = self._entity.make_server(
                (host, port),
                evt_handlers=handlers,
                server_class=BoundedServer,
                configuration=self._configuration,
                metrics=self._metrics,
                expect=self._receiver.expect,
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another node.host or node.port") from error
        if not isinstance(server, BoundedServer):
            raise TypeError("pynetdicom made another server than it was asked for")
        self._server = server
        self._entity._servers.append(server)  # start_server does the same; shutdown expects to find it there
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="scp", daemon=True).start()
        threading.Thread(target=server.watch, name="scp-watch", daemon=True).start()

    def stop(self, grace_s: float) -> None:
        """Take no new associations, let the running ones end within `grace_s` seconds, then abort them."""
        server, self._server = self._server, None
        if server is None:
            return
        server.stop_accepting()
        _wait_for_the_end(server, grace_s)
        for association in server.active_associations:
            association.abort(block=False)  # a peer that does not take the A-ABORT must not keep the node
        _wait_for_the_end(server, _ABORT_S)
        server.stop_watching()

    def _store(self, event: evt.Event) -> int:
        request: Any = event.request
        started = time.perf_counter()
        incoming = request.DataSet
        if not isinstance(incoming, Incoming):
            return CANNOT_UNDERSTAND  # a request without a data set
        if not incoming.claim():
            return OUT_OF_RESOURCES  # the association ended before we came to it
        try:
            instance = Instance(
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                incoming=incoming,
                sender=_shown(event.assoc.requestor.ae_title),
                priority=_PRIORITIES.get(request.Priority, ROUTINE),
            )
            return self._receiver.store(instance)
        except Exception as error:  # noqa: BLE001  # nothing may pass for success, and pynetdicom's own log would quote the data set
            LOG.error("refused an instance: internal error", extra={"error": type(error).__name__})
            return OUT_OF_RESOURCES
        finally:
            self._metrics.store.observe(time.perf_counter() - started)


def _wait_for_the_end(server: BoundedServer, longest_s: float) -> None:
    deadline = time.monotonic() + longest_s
    while server.active_associations and time.monotonic() < deadline:
        time.sleep(0.05)


def _entity(configuration: Configuration) -> ApplicationEntity:
    entity = ApplicationEntity(configuration.node.ae_title)
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.require_called_aet = configuration.access.require_called_ae_title
    entity.require_calling_aet = list(configuration.access.calling_ae_titles)
    entity.maximum_associations = configuration.limits.max_associations
    entity.maximum_pdu_size = configuration.limits.max_pdu_kb * 1024
    entity.acse_timeout = configuration.limits.request_timeout_s
    entity.dimse_timeout = entity.network_timeout = configuration.limits.network_timeout_s
    for sop_class in storage_sop_classes():
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    entity.add_supported_context(Verification)
    # An archive that reports asks for the SCP role, a sender that requests for none or the SCU's: both are accepted.
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    return entity


def _shown(ae_title: str) -> str:
    """A peer's AE title as it may be logged: printable, without the padding."""
    return "".join(letter if letter.isprintable() else "?" for letter in ae_title.strip())[:16]
