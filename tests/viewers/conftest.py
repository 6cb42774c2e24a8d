"""OHIF on an archive of its own, in a headless browser; skipped where one of the three is not installed."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certdicom.demo.orthanc import find_orthanc, orthanc
from certdicom.demo.viewer_site import find_ohif, viewer_site
from tests.viewers.browser import chromium, find_chromium
from tests.viewers.ohif import Ohif


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
    binary = find_chromium()
    if binary is None:
        pytest.skip("Chromium is not installed (Debian: apt install chromium)")
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
