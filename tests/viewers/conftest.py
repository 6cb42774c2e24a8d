"""OHIF on an archive of its own, in a headless browser; skipped where one of the three is not installed."""

from __future__ import annotations

import json
import shutil
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certdicom.demo.orthanc import find_orthanc, orthanc
from certdicom.demo.viewer_site import find_ohif, viewer_site
from tests.viewers.browser import chromium
from tests.viewers.ohif import Ohif


def _installed(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed (Debian: apt install orthanc orthanc-dicomweb chromium)")
    return found


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    found = find_orthanc()
    if found is None:
        pytest.skip("Orthanc and its DICOMweb plugin are not installed (Debian: apt install orthanc orthanc-dicomweb)")
    with orthanc(*found, tmp_path_factory.mktemp("orthanc")) as running:
        yield running.address


@pytest.fixture(scope="session")
def page(archive: str) -> Iterator[Ohif]:
    dist = find_ohif()
    if dist is None:
        pytest.skip("OHIF is not there (scripts/fetch_ohif)")
    binary = _installed("chromium", "chromium-browser", "google-chrome")
    with viewer_site(dist, archive) as site, chromium(binary) as browser:
        yield Ohif(browser, site)


def store(address: str, path: Path) -> None:
    """Send a file to the archive, which must accept it."""
    request = urllib.request.Request(f"{address}/instances", data=path.read_bytes(), method="POST")  # noqa: S310 -- our own archive
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        answer = json.load(response)
    if answer["Status"] != "Success":
        raise RuntimeError(f"the archive did not store {path}: {answer}")


@pytest.fixture
def stored(archive: str) -> Callable[..., None]:
    """Send files to the archive."""

    def send(*paths: Path) -> None:
        for path in paths:
            store(archive, path)

    return send
