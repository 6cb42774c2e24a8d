"""The status page as people meet it: in Chromium, on a desk and on a phone."""

from __future__ import annotations

import shutil
import threading

import pytest
from fakes import CheapCertifier, free_port

from certdicom.outputs import PREVIEW, REPORT, SEG

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield running
        running.close()


def test_a_film_is_seen_going_from_queued_to_done_and_a_failed_one_is_started_again(
    run_node, configure, archive, make_film, send, browser, tmp_path
):
    go_on = threading.Event()
    archive.behaviour = lambda number: 0x0000 if number == 1 else 0xA900
    certifier = CheapCertifier(lambda film: go_on.wait(60))
    certifier.outputs = [SEG, PREVIEW, REPORT]
    node = run_node(configure(archive, web__port=free_port()), certifier)
    page = browser.new_page(viewport={"width": 390, "height": 844})
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(node.web.address)
    assert page.get_by_text("No film has come yet").is_visible()
    assert send(node, make_film(1)) == [0]
    page.wait_for_selector(".job .state.certifying, .job .state.queued", timeout=60_000)
    go_on.set()
    page.wait_for_selector(".job .state.done", timeout=60_000)
    page.screenshot(path=tmp_path / "phone.png")
    page.locator(".job a.id").first.click()
    preview = page.locator("img.preview")
    preview.wait_for(timeout=60_000)
    assert preview.evaluate("image => image.complete && image.naturalWidth > 50")
    assert page.get_by_text("Certified radius").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "the page does not fit a phone"
    page.screenshot(path=tmp_path / "phone-film.png", full_page=True)

    assert send(node, make_film(2)) == [0]
    page.set_viewport_size({"width": 1100, "height": 800})
    page.goto(node.web.address + "?state=failed")
    page.wait_for_selector(".job .state.failed", timeout=60_000)
    page.screenshot(path=tmp_path / "desk-failed.png")
    archive.behaviour = lambda number: 0x0000
    page.get_by_role("button", name="Retry").click()
    page.wait_for_selector("h1 .state.done", timeout=60_000)
    assert all(url.startswith(node.web.address) for url in asked), "something was fetched from elsewhere"
    page.close()
