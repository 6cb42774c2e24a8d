"""One web address for OHIF and its archive: the viewer's files, its configuration, and `/dicom-web/` handed on to Orthanc."""

from __future__ import annotations

import contextlib
import http.client
import mimetypes
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

CONFIGURATION = """
window.config = {
  name: 'config/certdicom.js', routerBasename: null, extensions: [], modes: [], showStudyList: true,
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


def find_ohif(folder: Path | None = None) -> Path | None:
    """The folder of a built OHIF: `folder`, or what `scripts/fetch_ohif` put beside the package; None where there is none."""
    beside = Path(__file__).resolve().parents[2] / "build" / "ohif" / "dist"
    candidate = folder if folder is not None else beside
    return candidate if (candidate / "index.html").is_file() else None


@contextlib.contextmanager
def viewer_site(dist: Path, archive: str) -> Iterator[str]:
    """Serve the viewer in `dist` for the archive at the address `archive`, on the loopback interface; yields the site's address."""
    with _Server(dist, archive) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join(timeout=10)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, root: Path, archive: str) -> None:
        self.root, self.archive = root.resolve(), archive
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if not self.headers.get("Host", "").startswith(("127.0.0.1:", "localhost:")):
            self._answer(403, "text/plain", b"This page answers on this machine only.\n")  # a name of somebody's own (DNS rebinding)
            return
        path = self.path.split("?")[0]
        if path.startswith("/dicom-web/"):
            self._hand_on()
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", CONFIGURATION.encode())
        else:
            self._file(path)

    def _file(self, path: str) -> None:
        file = (self.server.root / path.lstrip("/")).resolve()
        if not file.is_relative_to(self.server.root) or not file.is_file():
            file = self.server.root / "index.html"  # the viewer's own routes
        self._answer(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes())

    def _hand_on(self) -> None:
        host, port = self.server.archive.removeprefix("http://").split(":")
        upstream = http.client.HTTPConnection(host, int(port), timeout=120)
        headers = {name: self.headers[name] for name in ("Accept", "Host") if self.headers[name]}
        try:
            upstream.request("GET", self.path, headers=headers)
            response = upstream.getresponse()
            self._answer(response.status, response.getheader("Content-Type", "application/octet-stream"), response.read())
        except OSError:
            self._answer(502, "text/plain", b"The archive does not answer.\n")
        finally:
            upstream.close()

    def _answer(self, status: int, kind: str, body: bytes) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002  # the name that the base class gives it
        """The demonstration prints its own words."""
