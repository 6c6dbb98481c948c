"""The tab "Stream" of Locust's page, in a real browser, while a real run is under way."""

import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.loadgen.browser import Browser
from tests.loadgen.conftest import Call, FakeServer, Locust, Reply, with_page

HOSTILE = "<img src=x onerror=alert(1)>"
FRAME = "document.querySelector('iframe[title=Stream]')"
SEEN = f"({FRAME} && {FRAME}.contentDocument && {FRAME}.contentDocument.body || {{innerText: ''}}).innerText"
REQUESTS = 60


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "profile") as one:
        yield one


def open_web(locust: Callable[..., Locust], server: FakeServer, *arguments: str) -> tuple[Locust, str]:
    """A Locust of two users with its page, and the page's address."""
    return with_page(locust, "--host", server.url, "--requests", str(REQUESTS), "-u", "2", *arguments)


class Gate:
    """Lets a phase's first requests through, and holds the others until it is opened."""

    def __init__(self, phase: str | None, free: int) -> None:
        self.opened = threading.Event()
        self._phase = phase
        self._free = free
        self._lock = threading.Lock()

    def react(self, call: Call) -> Reply | None:
        """As FakeServer wants it."""
        if call.worker is None and call.cache == self._phase:
            with self._lock:  # two users call at once
                self._free -= 1
                left = self._free
            if left < 0:
                self.opened.wait(60)
            if left == 5:
                return Reply(500, HOSTILE)
        return None


def test_the_tab_shows_warm_beside_cold_during_a_run(
    serve: Callable[..., FakeServer], locust: Callable[..., Locust], browser: Browser, tmp_path: Path
) -> None:
    gate = Gate("disk", 30)
    server = serve(services={"alpha": 40_000_000, HOSTILE: 10_000_000}, react=gate.react)
    started, url = open_web(locust, server, "--phases", "warm,disk")
    try:
        browser.open(f"{url}/?tab=stream")
        browser.wait_for("document.querySelector('button[type=submit]') !== null")
        assert not browser.evaluate(FRAME), "before a run Locust shows its form alone"
        # Its first question about the run must have been answered: "ready" after the start, and the page keeps its form.
        browser.wait_for("performance.getEntriesByType('resource').some(one => one.name.includes('/stats/requests'))")
        browser.evaluate("document.querySelector('button[type=submit]').click()")
        text = browser.wait_for(f"{SEEN}.includes('30 of {REQUESTS}') && {SEEN}")
        assert "Stream" in browser.evaluate("document.querySelector('[role=tablist]').innerText").title()
        browser.wait_for(f"{FRAME}.clientHeight >= {FRAME}.contentDocument.body.offsetHeight")
        browser.screenshot(Path(os.environ.get("DLSERVE_SCREENSHOTS", tmp_path)) / "stream-tab.png")
        assert re.search(rf"{REQUESTS} of {REQUESTS}", text), "the warm phase is over"
        assert "cold from disk" in text
        assert "Invalid, whatever comes" in text
        assert f"disk: 1 of 30 requests failed: 500: {HOSTILE}" in text or HOSTILE in text
        assert "send lag p99" in text
        assert re.search(r"n/a \(n=\d+\)", text), "p99 needs more answers than there are"
        rows = browser.evaluate(
            f"[...{FRAME}.contentDocument.querySelectorAll('tbody')].map(body => [...body.rows].map(row => row.innerText))"
        )
        assert len(rows) == 3, "all models, then each"
        assert [len(body) for body in rows] == [2, 2, 2], "warm beside cold"
        assert browser.evaluate(f"{FRAME}.contentDocument.images.length") == 0, "a name is text, whatever is in it"
        browser.evaluate(
            "[...document.querySelectorAll('[role=tab]')].find(tab => /charts/i.test(tab.innerText)).click()"
        )
        browser.wait_for(f"!{FRAME}")
        browser.evaluate(
            "[...document.querySelectorAll('[role=tab]')].find(tab => /stream/i.test(tab.innerText)).click()"
        )
        gate.opened.set()
        browser.wait_for(f"{SEEN}.includes('Invalid run: do not quote its figures')")
        assert browser.complaints == []
    finally:
        gate.opened.set()
    started.interrupt()
    started.wait()


def test_the_page_says_that_there_is_no_run_yet_and_serves_its_figures_as_json(
    serve: Callable[..., FakeServer], locust: Callable[..., Locust]
) -> None:
    started, url = open_web(locust, serve(), "--web-base-path", "/base")
    with httpx.Client(base_url=f"{url}/base") as web:
        assert "stream.js" in web.get("/").text
        assert web.get("/stream.json").json()["state"] == "none"
        assert "By model: warm beside cold" in web.get("/stream").text
        assert web.get("/stream.js").headers["Content-Type"].startswith("text/javascript")
    started.interrupt()
    started.wait()
