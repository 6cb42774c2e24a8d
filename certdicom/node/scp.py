"""The storage SCP: pynetdicom with its limits set, and guarded where it trusts whoever connects.

pynetdicom reads as many bytes as a PDU's length field says, completes a TLS handshake in the accepting thread, and counts
associations but not connections. `_Server` and `_Socket` bound all three. Cut-off connections end as a closed transport (PS3.8, AA-4).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
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
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from certdicom.dicom.uids import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from certdicom.errors import UsageError
from certdicom.node import commitment
from certdicom.node.configuration import Configuration
from certdicom.node.ledger import Ledger
from certdicom.node.metrics import Metrics
from certdicom.node.receiving import OUT_OF_RESOURCES, Instance, Receiver
from certdicom.node.tls import server_context

LOG = logging.getLogger("certdicom.node.scp")

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

_MIB: Final = 1024 * 1024
_WATCH_S: Final = 0.25
_PDU_HEAD: Final = 6


def storage_sop_classes() -> tuple[UID, ...]:
    """SOP classes that are accepted for storage; those that are not certified are stored and left alone."""
    return tuple(UID(context.abstract_syntax) for context in AllStoragePresentationContexts if context.abstract_syntax)


class StorageScp:
    """Listens, and hands each instance to a `Receiver`."""

    def __init__(self, configuration: Configuration, receiver: Receiver, ledger: Ledger, metrics: Metrics) -> None:
        self._configuration, self._receiver, self._ledger, self._metrics = configuration, receiver, ledger, metrics
        self._entity = _entity(configuration)
        self._server: _Server | None = None

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
        host, port = self._configuration.text("node.host"), self._configuration.whole("node.port")
        if self._configuration.tls:
            server_context(self._configuration)  # says at once what is wrong with the files
        handlers: list[Any] = [
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_ECHO, lambda _: 0x0000),
            (evt.EVT_N_EVENT_REPORT, lambda event: commitment.answer(event, self._ledger)),
            (evt.EVT_REJECTED, lambda _: self._metrics.rejected.labels(reason="association").inc()),
        ]
        try:
            server = self._entity.make_server(
                (host, port), evt_handlers=handlers, server_class=_Server, configuration=self._configuration, metrics=self._metrics
            )
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another node.host or node.port") from error
        if not isinstance(server, _Server):
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
        deadline = time.monotonic() + grace_s
        while server.active_associations and time.monotonic() < deadline:
            time.sleep(0.05)
        for association in server.active_associations:
            association.abort()
        server.stop_watching()

    def _store(self, event: evt.Event) -> int:
        request: Any = event.request
        started = time.perf_counter()
        try:
            instance = Instance(
                sop_class_uid=str(request.AffectedSOPClassUID),
                sop_instance_uid=str(request.AffectedSOPInstanceUID),
                transfer_syntax_uid=str(event.context.transfer_syntax),
                content=event.encoded_dataset(include_meta=False),
                sender=_shown(event.assoc.requestor.ae_title),
            )
            return self._receiver.store(instance)
        except Exception as error:  # noqa: BLE001  # nothing may pass for success, and pynetdicom's own log would quote the data set
            LOG.error("refused an instance: internal error", extra={"error": type(error).__name__})
            return OUT_OF_RESOURCES
        finally:
            self._metrics.store.observe(time.perf_counter() - started)


class _Traffic:
    """What one connection has sent, as far as limits look at it; times are monotonic seconds."""

    def __init__(self) -> None:
        now = time.monotonic()
        self.opened = self.last_pdu = now
        self.message_began: float | None = None
        self.message_bytes = 0
        self.asked = False


class _Socket(AssociationSocket):
    """Reads at most one PDU of the agreed size at a time."""

    most_bytes = _MIB

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > self.most_bytes:
            raise OSError("a PDU is longer than limits.max_pdu_kb")
        content = bytearray(nr_bytes)
        view, read = memoryview(content), 0
        if self.socket is None:
            raise OSError("the connection is closed")
        while read < nr_bytes:
            count = self.socket.recv_into(view[read:])
            if not count:
                break
            read += count
        view.release()
        del content[read:]
        return content


class _Handler(RequestHandler):
    """Gives each association a bounded socket and has its traffic watched."""

    def _create_association(self) -> Any:
        association = super()._create_association()
        server = self.server
        if isinstance(server, _Server):
            # super() has wrapped the same connection and announced it (Evt5): ours takes over before the reactor runs.
            association.dul.event_queue.get_nowait()
            bounded = _Socket(association, client_socket=self.request)
            bounded.most_bytes = server.most_pdu_bytes + _PDU_HEAD
            association.dul.socket = bounded
            server.follow(association)
        return association


class _Server(ThreadedAssociationServer):
    """Bounds connections, their bytes and their time."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *arguments: Any, configuration: Configuration, metrics: Metrics, **options: Any) -> None:
        self._configuration, self._metrics = configuration, metrics
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in configuration.texts("access.peer_addresses")]
        self._most_connections = configuration.whole("limits.max_connections")
        self.most_pdu_bytes = max(configuration.whole("limits.max_pdu_kb") * 1024, 64 * 1024)
        self._traffic: dict[Any, _Traffic] = {}
        self._open = 0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        super().__init__(*arguments, **{**options, "request_handler": _Handler})

    # connections

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept, and only that: what may take time belongs to the connection's own thread."""
        listener = self.socket
        if listener is None:
            raise OSError("the listener is closed")
        return listener.accept()

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Turn away who is not listed, and everybody while there are too many."""
        del request
        address = ipaddress.ip_address(str(client_address[0]).split("%", 1)[0])
        mapped = getattr(address, "ipv4_mapped", None)
        if self._networks and not any((mapped or address) in network for network in self._networks):
            LOG.warning("turned away a connection: its address is not in access.peer_addresses", extra={"peer": str(address)})
            self._metrics.rejected.labels(reason="address").inc()
            return False
        if not self._configuration.texts("access.calling_ae_titles") and not (mapped or address).is_loopback:
            LOG.warning("turned away another machine: access.calling_ae_titles lists nobody", extra={"peer": str(address)})
            self._metrics.rejected.labels(reason="no sender is listed").inc()
            return False
        with self._lock:
            if len(self._traffic) + self._open >= self._most_connections:
                self._metrics.rejected.labels(reason="too many connections").inc()
                return False
            self._open += 1
        return True

    def process_request(self, request: Any, client_address: Any) -> None:
        threading.Thread(target=self._serve, args=(request, client_address), name="scp-connection", daemon=True).start()

    def _serve(self, request: Any, client_address: Any) -> None:
        try:
            request.settimeout(self._configuration.number("limits.request_timeout_s"))
            if self._configuration.tls:
                request = self._handshake(request, client_address)
                if request is None:
                    return
            request.settimeout(self._configuration.number("limits.network_timeout_s"))
            self.finish_request(request, client_address)
        except Exception as error:  # noqa: BLE001  # one connection's trouble is not the server's
            LOG.warning("a connection ended early", extra={"error": type(error).__name__})
            self.shutdown_request(request)
        finally:
            with self._lock:
                self._open -= 1

    def _handshake(self, request: socket.socket, client_address: Any) -> ssl.SSLSocket | None:
        try:
            return server_context(self._configuration).wrap_socket(request, server_side=True)
        except (OSError, ValueError, UsageError) as error:
            reason = getattr(error, "reason", None) or type(error).__name__
            LOG.warning("turned away a connection: TLS", extra={"peer": str(client_address[0]), "reason": str(reason)})
            self._metrics.rejected.labels(reason="tls").inc()
            self.shutdown_request(request)
            return None

    def stop_accepting(self) -> None:
        self.shutdown()

    # watching

    def follow(self, association: Any) -> None:
        """Watch an association from its first byte."""
        with self._lock:
            self._traffic[association] = _Traffic()
        association.bind(evt.EVT_DATA_RECV, self._received)
        association.bind(evt.EVT_DIMSE_RECV, self._message_ended)
        association.bind(evt.EVT_REQUESTED, self._asked)

    def stop_watching(self) -> None:
        self._ended.set()

    def watch(self) -> None:
        """Cut off who takes too long or sends too much; runs until `stop_watching`."""
        limits = self._configuration
        while not self._ended.wait(_WATCH_S):
            now = time.monotonic()
            with self._lock:
                for association in [known for known, traffic in self._traffic.items() if not known.is_alive() and now - traffic.opened > 1]:
                    del self._traffic[association]
                watched = list(self._traffic.items())
            for association, traffic in watched:
                if not traffic.asked and now - traffic.opened > limits.number("limits.request_timeout_s"):
                    self._cut(association, "no association request in time")
                elif now - traffic.last_pdu > limits.number("limits.network_timeout_s"):
                    self._cut(association, "no complete PDU in time")
                elif traffic.message_began is not None and now - traffic.message_began > limits.number("limits.message_timeout_s"):
                    self._cut(association, "an instance took too long")

    def _received(self, event: evt.Event) -> None:
        data, association = event.data, event.assoc
        traffic = self._traffic.get(association)
        if traffic is None:
            return
        now = time.monotonic()
        traffic.last_pdu = now
        if not data or data[0] != 0x04:  # P-DATA-TF
            return
        traffic.message_began = traffic.message_began or now
        traffic.message_bytes += len(data)
        if traffic.message_bytes > self._configuration.whole("limits.max_object_mb") * _MIB + _MIB:
            self._cut(association, "an instance is larger than limits.max_object_mb")
        elif (
            sum(other.message_bytes for other in list(self._traffic.values())) > self._configuration.whole("limits.max_inflight_mb") * _MIB
        ):
            self._cut(association, "instances being received are larger than limits.max_inflight_mb")

    def _message_ended(self, event: evt.Event) -> None:
        traffic = self._traffic.get(event.assoc)
        if traffic is not None:
            traffic.message_began, traffic.message_bytes = None, 0

    def _asked(self, event: evt.Event) -> None:
        traffic = self._traffic.get(event.assoc)
        if traffic is not None:
            traffic.asked = True

    def _cut(self, association: Any, reason: str) -> None:
        with self._lock:
            known = self._traffic.pop(association, None)
        if known is None:
            return
        LOG.warning("cut off a connection", extra={"reason": reason, "peer": str(association.requestor.address)})
        self._metrics.rejected.labels(reason=reason).inc()
        transport = association.dul.socket
        connection = transport.socket if transport is not None else None
        if connection is not None:
            try:
                connection.shutdown(socket.SHUT_RDWR)  # wakes a reader; the reactor closes it
            except OSError:  # closed in the meantime
                return


def _entity(configuration: Configuration) -> ApplicationEntity:
    entity = ApplicationEntity(configuration.text("node.ae_title"))
    entity.implementation_class_uid = UID(IMPLEMENTATION_CLASS_UID)
    entity.implementation_version_name = IMPLEMENTATION_VERSION_NAME
    entity.require_called_aet = configuration.flag("access.require_called_ae_title")
    entity.require_calling_aet = list(configuration.texts("access.calling_ae_titles"))
    entity.maximum_associations = configuration.whole("limits.max_associations")
    entity.maximum_pdu_size = configuration.whole("limits.max_pdu_kb") * 1024
    entity.acse_timeout = configuration.number("limits.request_timeout_s")
    entity.dimse_timeout = entity.network_timeout = configuration.number("limits.network_timeout_s")
    for sop_class in storage_sop_classes():
        entity.add_supported_context(sop_class, list(TRANSFER_SYNTAXES))
    entity.add_supported_context(Verification)
    # The archive asks for the SCP role; who asks for none is heard too.
    entity.add_supported_context(StorageCommitmentPushModel, scu_role=True, scp_role=True)
    return entity


def _shown(ae_title: str) -> str:
    """A peer's AE title as it may be logged: printable, without the padding."""
    return "".join(letter if letter.isprintable() else "?" for letter in ae_title.strip())[:16]
