"""A headless Chromium, driven through the W3C WebDriver protocol: a few requests of JSON, no further package."""

# ruff: noqa: S310 -- every address is one that the test itself opened on this machine

from __future__ import annotations

import base64
import contextlib
import io
import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from certdicom.demo.processes import free_port, running, wait_for

_FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1500,1000", "--force-device-scale-factor=1"),
    *("--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist", "--no-first-run", "--mute-audio"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--proxy-bypass-list=<-loopback>"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but this machine
)


class Browser:
    """One page; times are in seconds."""

    def __init__(self, address: str, session: str) -> None:
        self._root = f"{address}/session/{session}"

    def open(self, url: str) -> None:
        self._post("/url", {"url": url})

    def run(self, script: str, *arguments: object) -> Any:
        return self._post("/execute/sync", {"script": script, "args": list(arguments)})

    def wait(self, script: str, *arguments: object, seconds: float = 240, what: str = "") -> Any:
        """The first true value of `script`."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what or script}")
            time.sleep(0.5)

    def press(self, x: float, y: float, *, times: int = 1) -> None:
        """Click, or double click, at a place in the window."""
        moves: list[dict[str, Any]] = [{"type": "pointerMove", "duration": 0, "x": round(x), "y": round(y)}]
        for _ in range(times):
            moves += [{"type": "pointerDown", "button": 0}, {"type": "pointerUp", "button": 0}]
        self._post("/actions", {"actions": [{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}, "actions": moves}]})

    def picture(self, path: Path | None = None) -> np.ndarray:
        """The window as (rows, columns, 3) uint8, also saved to `path`."""
        data = base64.b64decode(self._call("GET", "/screenshot"))
        if path is not None:
            path.write_bytes(data)
        with Image.open(io.BytesIO(data)) as image:
            return np.asarray(image.convert("RGB"))

    def complaints(self) -> list[str]:
        """What the page logged as an error since the last call."""
        entries = self._post("/se/log", {"type": "browser"})
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self._call("POST", path, body)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._root + path, data=data, method=method, headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=300) as response:
                return json.load(response)["value"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.read().decode(errors='replace')[:500]}") from error


@contextlib.contextmanager
def chromium(driver: str, binary: str, folder: Path) -> Iterator[Browser]:
    """A browser with an empty profile; it is closed when the block is left."""
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    log = folder / "chromedriver.log"
    with running([driver, f"--port={port}", "--allowed-ips=127.0.0.1"], log=log) as process:
        wait_for(f"{address}/status", process=process, log=log)
        options = {"binary": binary, "args": [*_FLAGS, f"--user-data-dir={folder / 'profile'}"]}
        capabilities = {"alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}}
        request = urllib.request.Request(
            f"{address}/session", data=json.dumps({"capabilities": capabilities}).encode(), headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=180) as response:
            session = json.load(response)["value"]["sessionId"]
        try:
            yield Browser(address, session)
        finally:
            with contextlib.suppress(OSError):
                urllib.request.urlopen(urllib.request.Request(f"{address}/session/{session}", method="DELETE"), timeout=60).close()
