"""OHIF on an archive of its own, in a headless browser; skipped where one of the three is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.viewers.browser import chromium
from tests.viewers.ohif import Ohif
from tests.viewers.site import orthanc, store, viewer_site

_DIST = Path(__file__).parents[2] / "build" / "ohif" / "dist"
_PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/lib/orthanc/libOrthancDicomWeb.so")


def _installed(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        pytest.skip(f"{names[0]} is not installed (Debian: apt install orthanc orthanc-dicomweb chromium chromium-driver)")
    return found


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    plugin = next((Path(path) for path in _PLUGINS if Path(path).exists()), None)
    if plugin is None:
        pytest.skip("Orthanc's DICOMweb plugin is not installed (Debian: apt install orthanc-dicomweb)")
    with orthanc(_installed("Orthanc", "/usr/sbin/Orthanc"), plugin, tmp_path_factory.mktemp("orthanc")) as address:
        yield address


@pytest.fixture(scope="session")
def page(archive: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ohif]:
    if not (_DIST / "index.html").exists():
        pytest.skip("OHIF is not there (scripts/fetch_ohif)")
    driver, binary = _installed("chromedriver"), _installed("chromium", "chromium-browser", "google-chrome")
    with viewer_site(_DIST, archive) as site, chromium(driver, binary, tmp_path_factory.mktemp("browser")) as browser:
        yield Ohif(browser, site)


@pytest.fixture
def stored(archive: str) -> Callable[..., None]:
    """Send files to the archive."""

    def send(*paths: Path) -> None:
        for path in paths:
            store(archive, path)

    return send
