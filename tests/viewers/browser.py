"""A headless Chromium, driven by Playwright."""

from __future__ import annotations

import contextlib
import io
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from playwright.sync_api import Page, sync_playwright

WINDOW = (1500, 1000)
"""Width and height of a browser's window, in pixels, where nobody asks for another."""

_FLAGS = (
    *("--no-sandbox", "--disable-dev-shm-usage", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--proxy-bypass-list=<-loopback>"),
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",  # nothing but this machine
)


class Browser:
    """One page; times are in seconds."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._complaints: list[str] = []
        page.on("console", lambda message: self._complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self._complaints.append(str(error)))

    def open(self, url: str) -> None:
        self._page.goto(url)

    def run(self, script: str, *arguments: object) -> Any:
        """What a function with this body returns; it finds its arguments in `arguments`."""
        return self._page.evaluate(f"values => (function () {{ {script} }}).apply(null, values)", list(arguments))

    def wait(self, script: str, *arguments: object, seconds: float = 240, what: str = "") -> Any:
        """The first true value of `script`."""
        end = time.monotonic() + seconds
        while True:
            value = self.run(script, *arguments)
            if value:
                return value
            if time.monotonic() > end:
                raise TimeoutError(f"waited {seconds} s for {what or script}")
            self._page.wait_for_timeout(500)

    def press(self, x: float, y: float, *, times: int = 1) -> None:
        """Click, or double click, at a place in the window."""
        self._page.mouse.click(x, y, click_count=times)

    def resize(self, width: int, height: int) -> None:
        """Give the window another size, in pixels."""
        self._page.set_viewport_size({"width": width, "height": height})

    def picture(self, path: Path | None = None) -> np.ndarray:
        """The window as (rows, columns, 3) uint8, also saved to `path`."""
        with Image.open(io.BytesIO(self._page.screenshot(path=path, timeout=120_000))) as image:
            return np.asarray(image.convert("RGB"))

    def complaints(self) -> list[str]:
        """What the page logged as an error since the last call."""
        found, self._complaints[:] = list(self._complaints), []
        return found


def find_chromium() -> str | None:
    """The browser's program (Debian: chromium); None where it is not installed."""
    return next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)


@contextlib.contextmanager
def chromium(binary: str) -> Iterator[Browser]:
    """A browser with an empty profile; it is closed when the block is left."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=_FLAGS, timeout=180_000)
        try:
            yield Browser(browser.new_page(viewport={"width": WINDOW[0], "height": WINDOW[1]}))
        finally:
            browser.close()
