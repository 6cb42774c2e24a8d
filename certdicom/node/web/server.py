"""The status page's server: a thread of its own beside the SCP."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Final

import uvicorn

from certdicom.errors import UsageError
from certdicom.node.web.access import read_token
from certdicom.node.web.app import build_app

if TYPE_CHECKING:
    from certdicom.node.web.view import RunningNode

_START_S: Final = 20.0


class WebServer:
    """Serves `build_app` of a service on the configured address."""

    def __init__(self, service: RunningNode) -> None:
        """UsageError when the token file is wrong or the address is taken."""
        configuration = service.configuration
        host, port = configuration.web.host, configuration.web.port
        app = build_app(service, token=read_token(configuration))
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}; choose another web.host or web.port") from error
        self.address = f"http://{host}:{self._socket.getsockname()[1]}/"
        settings = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            http="h11",
            timeout_keep_alive=5,
            server_header=False,
            limit_concurrency=64,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]}, name="web", daemon=True)

    def start(self) -> None:
        """Return once it answers."""
        self._thread.start()
        deadline = time.monotonic() + _START_S
        while not self._server.started and self._thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=5)
        self._socket.close()
