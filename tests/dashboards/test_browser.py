"""The page in a real browser: it complains of nothing, shows its pictures, and fits a desktop and a telephone."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from dlclient.results import Clock, Objective
from dlreport.balance import write_balance_report
from dlreport.compare.condition import judge, parse_condition
from dlreport.compare.report import compare, write_comparison
from dlreport.merge.report import write_streams
from dlreport.search import write_search_report
from dlreport.stream import write_report

from tests.dashboards import made_balance
from tests.dashboards.conftest import SearchFolder, StreamResult, drawn, late
from tests.dashboards.made_benches import two_networks

CHECK = """
<script>
addEventListener("load", () => {
  const found = {
    pictures: [...document.images].map(image => image.complete && image.naturalWidth > 100),
    wide: document.documentElement.scrollWidth - innerWidth,
    width: innerWidth,
  };
  document.documentElement.setAttribute("data-found", JSON.stringify(found));
});
</script>
"""


def closed_loop(folder: Path) -> Path:
    services = ("a_model_with_a_rather_long_name", "<script>alert(1)</script>")
    medians = dict.fromkeys(services, 0.01)
    phases = {phase: drawn(phase, 40, services, medians, fail=[3]) for phase in ("warm", "disk")}
    return write_report(StreamResult(phases, services, {}, simulated=True).write(folder))


def open_loop(folder: Path) -> Path:
    sentence = (
        "service:p99<50ms: measured 12 ms; 0 of 700 requests were over, none of them failed; and so on and so forth"
    )
    result = StreamResult(
        {phase: late(phase, 700) for phase in ("warm", "disk")},
        ("a",),
        {},
        load="100/s poisson, 1.5 x as fast",
        offered_per_s=100.0,
        delivered_per_s=99.0,
        objectives=(Objective(text="service:p99<50ms", outcome="met", sure=True, sentence=sentence),) * 3,
        clock=Clock(warm_up_requests=1000, warm_up_s=12.3, steady=False, to_s=6.5, left_out=49),
    )
    return write_report(result.write(folder))


def search(folder: Path) -> Path:
    return write_search_report(SearchFolder().write(folder))


def comparison(folder: Path) -> Path:
    found = compare(
        two_networks(1).write(folder / "a"), two_networks(2, slower=1.3, simulated=True).write(folder / "b")
    )
    return write_comparison(found, judge(found, [parse_condition("mean>+5%")]), folder / "page")


def side_by_side(folder: Path) -> Path:
    medians = {"a_model_with_a_rather_long_name": 0.01}
    results = []
    for workers in (1, 2):
        made = StreamResult(
            {"warm": drawn("warm", 40, tuple(medians), medians)}, tuple(medians), {}, simulated=workers == 2
        )
        made.info = {"dlserve": {"workers": [{"device_name": "Example CPU 8000"}] * workers}}
        results.append(made.write(folder / str(workers)))
    return write_streams(results, folder / "page")


def policies(folder: Path) -> Path:
    return write_balance_report(made_balance.write(folder, made_balance.comparison()))


PAGES = {closed_loop: 5, open_loop: 6, search: 1, comparison: 2, side_by_side: 1, policies: 6}
"""How each page is made -> how many pictures it has."""


@pytest.fixture(scope="module", params=PAGES)
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A page and how many pictures it has."""
    return request.param(tmp_path_factory.mktemp("result")), PAGES[request.param]


def open_page(page: Path, profile: Path, width: int) -> subprocess.CompletedProcess[str]:
    """Open a page in headless Chromium; stdout is its document afterwards, stderr the browser's log with the console."""
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.fail("chromium is not installed; run: apt-get install -y --no-install-recommends chromium")
    return subprocess.run(
        [
            chromium, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--enable-logging=stderr",
            f"--user-data-dir={profile}", f"--window-size={width},900", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def test_the_browser_console_stays_empty(page: tuple[Path, int], tmp_path: Path) -> None:
    done = open_page(page[0], tmp_path, 1200)
    assert "Definitions" in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


def test_the_check_of_the_console_would_see_a_complaint(tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text("<script>throw new Error('seen')</script>")
    done = open_page(broken, tmp_path / "profile", 1200)
    assert any("CONSOLE" in line and "seen" in line for line in done.stderr.splitlines())


@pytest.mark.parametrize("width", [1200, 480])
def test_pictures_are_shown_and_nothing_is_wider_than_the_window(
    page: tuple[Path, int], tmp_path: Path, width: int
) -> None:
    checked = tmp_path / "checked.html"
    source, removed = re.subn(r'<meta http-equiv="Content-Security-Policy"[^>]*>', CHECK, page[0].read_text())
    assert removed == 1
    checked.write_text(source)
    attribute = re.search(r'data-found="([^"]*)"', open_page(checked, tmp_path / "profile", width).stdout)
    assert attribute is not None
    found = json.loads(attribute[1].replace("&quot;", '"'))
    assert found["pictures"] == [True] * page[1]
    assert found["wide"] <= 0
    assert found["width"] <= 1200
