"""pynetdicom's upper layer where it is changed: how it waits, what it reads at a time, and where data sets go.

pynetdicom reads as many bytes as a PDU's length field says, looks for work a thousand times a second in two threads of each
association, and collects data sets in memory. Here a PDU is bounded, threads sleep until there is something to do, and the data
set of a C-STORE goes wherever `expect` says.
"""

from __future__ import annotations

import logging
import queue
import select
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final, Protocol

from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.fsm import StateMachine
from pynetdicom.pdu_primitives import P_DATA
from pynetdicom.transport import AssociationSocket

from certdicom.node.receive.incoming import Incoming

LOG = logging.getLogger("certdicom.node.receive.upper_layer")

_LONGEST_WAIT_S: Final = 0.1
"""How long a thread sleeps without looking at timers."""


class Expect(Protocol):
    """Says where the data set of a C-STORE request goes, before any of it has come."""

    def __call__(self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> Incoming: ...


class BoundedSocket(AssociationSocket):
    """Reads at most one PDU of the agreed size at a time, and sleeps until there is something to read or to send."""

    def __init__(self, association: Association, connection: socket.socket, *, most_bytes: int) -> None:
        super().__init__(association, client_socket=connection)
        self._most_bytes = most_bytes
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._connection = connection.fileno()
        self._poll = select.poll()
        for descriptor in (self._connection, self._woken.fileno()):
            self._poll.register(descriptor, select.POLLIN)
        association.dul.to_provider_queue = _Announced(self._wake)

    @property
    def ready(self) -> bool:
        """Whether there is something to read; waits a little for it, or until there is something to send."""
        if self.socket is None or not self._is_connected:
            return False
        if isinstance(self.socket, ssl.SSLSocket) and self.socket.pending():
            return True
        found = [descriptor for descriptor, _ in self._poll.poll(1000 * _LONGEST_WAIT_S)]
        if self._woken.fileno() in found:
            try:
                self._woken.recv(4096)
            except OSError:  # closed, or read already
                return False
        return self._connection in found

    def recv(self, nr_bytes: int) -> bytearray:
        if nr_bytes > self._most_bytes:
            raise OSError("a PDU is longer than limits.max_pdu_kb")
        content = bytearray(nr_bytes)
        if self.socket is None:
            raise OSError("the connection is closed")
        read = 0
        with memoryview(content) as view:
            while read < nr_bytes:
                count = self.socket.recv_into(view[read:])
                if not count:
                    break
                read += count
        del content[read:]
        return content

    def _shutdown_socket(self) -> None:
        super()._shutdown_socket()
        for end in (self._woken, self._waker):
            end.close()

    def _wake(self) -> None:
        try:
            self._waker.send(b"\0")
        except OSError:  # closed, or awake already
            return


class GuardedStateMachine(StateMachine):
    """Ends the connection where a peer does what its state does not allow; pynetdicom would end its thread, and leave it open."""

    def do_action(self, event: str) -> None:
        try:
            super().do_action(event)
        except Exception as error:  # noqa: BLE001  # whatever an action stumbles over, this association is over
            LOG.info("a peer broke the rules of the upper layer; the association was ended", extra={"error": type(error).__name__})
            association: Any = self.dul.assoc
            association.is_aborted, association.is_established, association._kill = True, False, True
            self.dul.kill_dul()
            if self.dul.socket is not None:
                self.dul.socket.close()


class StreamingDimse(DIMSEServiceProvider):
    """Hands the data sets of C-STORE requests on as they come."""

    def __init__(self, association: Association, expect: Expect) -> None:
        super().__init__(association)
        self._expect = expect
        self._incoming: list[Incoming] = []
        self._ended = False
        # A release or an abort wakes the thread that waits for messages.
        association.dul.to_user_queue = _Announced(lambda: self.msg_queue.put((None, None)))

    @property
    def storing(self) -> bool:
        """Whether what comes is the data set of a C-STORE request."""
        return isinstance(self.message, C_STORE_RQ)

    def get_msg(self, block: bool = False) -> Any:
        """The next message; `block`: wait until the DIMSE timeout, otherwise a little."""
        if block:
            return super().get_msg(block=True)
        try:
            return self.msg_queue.get(timeout=_LONGEST_WAIT_S)
        except queue.Empty:
            return None, None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take one P-DATA-TF in. One PDV at a time: a request and the beginning of its data set may share a PDU."""
        for value in primitive.presentation_data_value_list:
            single = P_DATA()
            single.presentation_data_value_list = [list(value)]  # type: ignore[list-item]  # its setter asks for lists
            super().receive_primitive(single)
            message = self.message
            if isinstance(message, C_STORE_RQ) and not isinstance(message.data_set, Incoming):
                message.data_set = self._open(message)

    def discard(self) -> None:
        """Discard what nobody has claimed, and what is still to come: the association has ended, or was cut off.

        A connection that was shut down still gives what had come before, which may be the rest of an instance.
        """
        self._ended = True
        for incoming in self._incoming:
            if incoming.claim():
                incoming.discard()
        self._incoming.clear()

    def _open(self, message: C_STORE_RQ) -> Incoming:
        command: Any = message.command_set
        context = self.assoc._accepted_cx.get(message.context_id) if message.context_id is not None else None
        incoming = self._expect(
            sop_class_uid=str(command.get("AffectedSOPClassUID", "")),
            sop_instance_uid=str(command.get("AffectedSOPInstanceUID", "")),
            transfer_syntax_uid=str(context.transfer_syntax[0]) if context is not None and context.transfer_syntax else "",
        )
        self._incoming = [*(other for other in self._incoming if not other.claimed), incoming]
        if self._ended:
            self.discard()
        return incoming


class _Announced(queue.Queue[Any]):
    """A queue that says when something was put in."""

    def __init__(self, announce: Callable[[], None]) -> None:
        super().__init__()
        self._announce = announce

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        super().put(item, block, timeout)
        self._announce()
