"""One web address for a viewer and its archive: OHIF's files, its configuration, and `/dicom-web/` handed on to Orthanc.

Everything listens on the loopback interface alone, and everything that is started is ended by its process.
"""

# ruff: noqa: S310 -- every address is one that the test itself opened on this machine

from __future__ import annotations

import contextlib
import http.client
import json
import mimetypes
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONFIGURATION = """
window.config = {
  name: 'config/certdicom-test.js', routerBasename: null, extensions: [], modes: [], showStudyList: true,
  maxNumberOfWebWorkers: 2, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false, showLoadingIndicator: true,
  strictZSpacingForVolumeViewport: true, investigationalUseDialog: { option: 'never' },
  defaultDataSourceName: 'dicomweb',
  dataSources: [{
    namespace: '@ohif/extension-default.dataSourcesModule.dicomweb', sourceName: 'dicomweb',
    configuration: {
      friendlyName: 'Orthanc', name: 'orthanc', wadoUriRoot: '/wado', qidoRoot: '/dicom-web', wadoRoot: '/dicom-web',
      qidoSupportsIncludeField: false, imageRendering: 'wadors', thumbnailRendering: 'wadors', enableStudyLazyLoad: true,
      supportsFuzzyMatching: false, supportsWildcard: true, omitQuotationForMultipartRequest: true,
      bulkDataURI: { enabled: true, relativeResolution: 'studies' },
    },
  }],
};
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(command: list[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that is ended, and waited for, when the block is left."""
    with log.open("wb") as stream, subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()


def wait_for(url: str, *, process: subprocess.Popen[bytes], seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"{process.args} ended with {process.returncode} before it answered")
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.3)
    raise RuntimeError(f"{url} did not answer within {seconds} s")


@contextlib.contextmanager
def orthanc(program: str, plugin: Path, folder: Path) -> Iterator[str]:
    """An empty archive with DICOMweb; yields its address."""
    port = free_port()
    settings = {
        "Name": "viewers-test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomServerEnabled": False,
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full", "SeriesMetadata": "Full"},
    }
    path = folder / "orthanc.json"
    path.write_text(json.dumps(settings))
    with running([program, str(path)], log=folder / "orthanc.log") as process:
        address = f"http://127.0.0.1:{port}"
        wait_for(f"{address}/system", process=process)
        yield address


def store(address: str, path: Path) -> None:
    """Send a file to the archive, which must accept it."""
    request = urllib.request.Request(f"{address}/instances", data=path.read_bytes(), method="POST")
    with urllib.request.urlopen(request, timeout=60) as response:
        answer = json.load(response)
    if answer["Status"] != "Success":
        raise RuntimeError(f"the archive did not store {path}: {answer}")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web/"):
            self._hand_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIGURATION.encode())
        else:
            self._file(path)

    def _file(self, path: str) -> None:
        root = self.server.root.resolve()
        file = (root / path.lstrip("/")).resolve()
        if not file.is_relative_to(root) or not file.is_file():
            file = root / "index.html"  # the viewer's own routes
        self._answer(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes())

    def _hand_on(self) -> None:
        host, port = self.server.archive.removeprefix("http://").split(":")
        upstream = http.client.HTTPConnection(host, int(port), timeout=120)
        headers = {name: self.headers[name] for name in ("Accept", "Host") if self.headers[name]}
        upstream.request("GET", self.path, headers=headers)
        response = upstream.getresponse()
        self._answer(response.status, response.getheader("Content-Type", "application/octet-stream"), response.read())
        upstream.close()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Tests print their own words."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path, archive: str) -> None:
        self.root, self.archive = root, archive
        super().__init__(("127.0.0.1", 0), _Handler)


@contextlib.contextmanager
def viewer_site(dist: Path, archive: str) -> Iterator[str]:
    """The viewer at an address of its own; yields the address."""
    with _Server(dist, archive) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)
