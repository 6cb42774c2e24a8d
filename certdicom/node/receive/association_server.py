"""The listening side of pynetdicom, guarded where it trusts whoever connects.

pynetdicom completes a TLS handshake in the accepting thread and counts associations but not connections, nor their bytes. The
server bounds all of them, and their time. Cut-off connections end as a closed transport (PS3.8, AA-4).
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
import threading
import time
from typing import Any, Final

from pynetdicom import evt
from pynetdicom.transport import RequestHandler, ThreadedAssociationServer

from certdicom.errors import UsageError
from certdicom.node.configuration import Configuration
from certdicom.node.metrics import Metrics
from certdicom.node.receive.upper_layer import BoundedSocket, Expect, GuardedStateMachine, StreamingDimse
from certdicom.node.tls import server_context

LOG = logging.getLogger("certdicom.node.receive.association_server")

_MIB: Final = 1024 * 1024
_WATCH_S: Final = 0.25
_PDU_HEAD: Final = 6


class _Traffic:
    """What one connection has sent, as far as limits look at it; times are monotonic seconds."""

    def __init__(self) -> None:
        now = time.monotonic()
        self.opened = self.last_pdu = now
        self.message_began: float | None = None
        self.message_bytes = 0
        self.asked = False


class _Handler(RequestHandler):
    """Gives each association our socket and our DIMSE, and has its traffic watched."""

    def _create_association(self) -> Any:
        association = super()._create_association()
        server = self.server
        if isinstance(server, BoundedServer):
            # super() has wrapped the same connection and announced it (Evt5): ours takes over before the reactor runs.
            association.dul.event_queue.get_nowait()
            association.dul.socket = BoundedSocket(association, self.request, most_bytes=server.most_pdu_bytes + _PDU_HEAD)
            association.dimse = StreamingDimse(association, server.expect)
            machine, association.dul.state_machine = association.dul.state_machine, GuardedStateMachine(association.dul)
            association.dul.state_machine.transition(machine.current_state)
            server.follow(association)
        return association


class BoundedServer(ThreadedAssociationServer):
    """Bounds connections, their bytes and their time."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, *arguments: Any, configuration: Configuration, metrics: Metrics, expect: Expect, **options: Any) -> None:
        """`expect`: says where the data set of a C-STORE request goes."""
        self._configuration, self._metrics, self.expect = configuration, metrics, expect
        self._networks = [ipaddress.ip_network(entry, strict=False) for entry in configuration.access.peer_addresses]
        self._most_connections = configuration.limits.max_connections
        self.most_pdu_bytes = max(configuration.limits.max_pdu_kb * 1024, 64 * 1024)
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
        if not self._configuration.access.calling_ae_titles and not (mapped or address).is_loopback:
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
            request.settimeout(self._configuration.limits.request_timeout_s)
            if self._configuration.uses_tls:
                request = self._handshake(request, client_address)
                if request is None:
                    return
            request.settimeout(self._configuration.limits.network_timeout_s)
            request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
        association.bind(evt.EVT_CONN_CLOSE, lambda event: event.assoc.dimse.discard())

    def stop_watching(self) -> None:
        self._ended.set()

    def watch(self) -> None:
        """Cut off who takes too long or sends too much; runs until `stop_watching`."""
        limits = self._configuration
        while not self._ended.wait(_WATCH_S):
            now = time.monotonic()
            with self._lock:
                ended = [known for known, traffic in self._traffic.items() if not known.is_alive() and now - traffic.opened > 1]
                for association in ended:
                    del self._traffic[association]
                watched = list(self._traffic.items())
            for association in ended:
                association.dimse.discard()
            for association, traffic in watched:
                if not traffic.asked and now - traffic.opened > limits.limits.request_timeout_s:
                    self._cut(association, "no association request in time")
                elif now - traffic.last_pdu > limits.limits.network_timeout_s:
                    self._cut(association, "no complete PDU in time")
                elif traffic.message_began is not None and now - traffic.message_began > limits.limits.message_timeout_s:
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
        # Only what is stored goes to the disk; other messages are collected in memory, and none of ours is long.
        storing = isinstance(association.dimse, StreamingDimse) and association.dimse.storing
        most = self._configuration.limits.max_object_mb * _MIB if storing else 0
        if traffic.message_bytes > most + self.most_pdu_bytes + _MIB:  # the request may share a PDU with what it announces
            self._cut(
                association,
                "an instance is larger than limits.max_object_mb" if storing else "a message is longer than any that is expected",
            )

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
        association.dimse.discard()
        transport = association.dul.socket
        if transport is not None and transport.socket is not None:
            _shut_down(transport.socket)


def _shut_down(connection: socket.socket) -> None:
    """Wake who reads from a connection; the reactor closes it."""
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # closed in the meantime
        return
