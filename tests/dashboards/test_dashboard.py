"""The Grafana dashboard and the Prometheus settings, against a real Prometheus that scrapes a real dlserve under load."""

import itertools
import json
import math
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import DEADLINE_S, Server, simulated

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "dashboards/grafana/dlserve.json").read_text())
SETTINGS = ROOT / "dashboards/prometheus/prometheus.yml"
SERVICES = ("alpha", "beta", "gamma")
MOST_ROUNDS = 3000
"""Of the load: it ends long before, as soon as Prometheus has seen enough."""
VARIABLES = {"$service": ".*", "$worker": ".*", "$__rate_interval": "5s", "$__interval": "1s", "$__range": "1m"}
GPU_ROW = "GPU (needs an NVIDIA GPU)"


def program(name: str) -> str:
    """The path of a program of Debian's package prometheus. Its absence is a failure: these tests are not optional."""
    path = shutil.which(name)
    if path is None:
        pytest.fail(f"{name} is not installed; run: apt-get install -y --no-install-recommends prometheus")
    return path


def rows() -> list[tuple[str, list[dict[str, Any]]]]:
    """The dashboard's rows: title and panels, whether they are collapsed or not."""
    found: list[tuple[str, list[dict[str, Any]]]] = []
    for panel in DASHBOARD["panels"]:
        if panel["type"] == "row":
            found.append((panel["title"], list(panel["panels"])))
        else:
            found[-1][1].append(panel)
    return found


PANELS = [panel for _, panels in rows() for panel in panels]


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    row: str
    panel: str
    expression: str

    def filled_in(self) -> str:
        """With the dashboard's variables replaced, as Grafana does it."""
        text = self.expression
        for variable, value in VARIABLES.items():
            text = re.sub(re.escape(variable) + r"\b", value, text)
        assert "$" not in text, f"{self.panel}: a variable that nobody fills in: {text}"
        return text


QUERIES = [
    Query(title, panel["title"], target["expr"])
    for title, panels in rows()
    for panel in panels
    for target in panel["targets"]
]
QUERIES += [Query("annotations", one["name"], one["expr"]) for one in DASHBOARD["annotations"]["list"] if "expr" in one]


class Prometheus:
    """A Prometheus of this test's own, on a free loopback port, with a storage that goes away with it."""

    def __init__(self, folder: Path, target: str) -> None:
        settings = SETTINGS.read_text()
        for shipped, here in (("127.0.0.1:8080", target), ("scrape_interval: 5s", "scrape_interval: 1s"), ("scrape_timeout: 4s", "scrape_timeout: 1s")):  # fmt: skip
            assert settings.count(shipped) == 1, shipped
            settings = settings.replace(shipped, here)
        (folder / "prometheus.yml").write_text(settings)
        self.log: list[str] = []
        self._address = ""
        self._listens = threading.Event()
        self.process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                "--web.listen-address=127.0.0.1:0",
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.log.append(line)
            if found := re.search(r'"?Listening on"? address=(\S+)', line):
                self._address = found[1]
                self._listens.set()
        self._listens.set()

    def client(self) -> httpx.Client:
        """Of its HTTP API."""
        self._listens.wait(DEADLINE_S)
        assert self._address, "Prometheus did not start:\n" + "".join(self.log)
        return httpx.Client(base_url=f"http://{self._address}/api/v1", timeout=30, trust_env=False)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()
        self._reader.join(DEADLINE_S)
        assert self.process.stderr is not None
        self.process.stderr.close()


def ask(client: httpx.Client, path: str, **parameters: Any) -> Any:
    """What Prometheus's API answers; fails the test if that is an error."""
    answer = client.get(path, params=parameters).json()
    assert answer["status"] == "success", answer
    return answer["data"]


def value(client: httpx.Client, expression: str) -> float:
    """The value of a query that has at most one; NaN where it has none yet."""
    found = ask(client, "query", query=expression)["result"]
    return float(found[0]["value"][1]) if found else math.nan


def one_round(client: httpx.Client) -> None:
    """Some of everything that the dashboard shows: single calls, a batch, a cold call, a call that is refused."""
    for service in SERVICES:
        assert (
            client.post(f"/predict/{service}", content=b"image", headers={"Content-Type": "image/jpeg"}).status_code
            == 200
        )
    batch = {"service": "alpha", "data": ["aW1hZ2U="] * 3, "parameters": {"mllib": {"cache": "disk"}}}
    assert client.post("/predict", json=batch).status_code == 200
    refused = client.post("/predict/beta?best=many", content=b"image", headers={"Content-Type": "image/jpeg"})
    assert refused.status_code == 400


def load_until_seen(server: httpx.Client, prometheus: httpx.Client) -> None:
    """Send a bounded load until Prometheus has scraped it often enough for every rate."""
    began = time.monotonic()
    for _ in range(MOST_ROUNDS):
        one_round(server)
        scrapes = value(prometheus, "count_over_time(dlserve_services[10m])")
        evictions = value(prometheus, 'sum(rate(dlserve_cache_evictions_total{reason="room"}[5s]))')
        if scrapes >= 5 and evictions > 0:
            return
        assert time.monotonic() - began < DEADLINE_S, f"Prometheus has seen {scrapes} scrapes, {evictions} evictions/s"
    pytest.fail(f"{MOST_ROUNDS} rounds of load were over before Prometheus had seen enough")


@dataclass(frozen=True)
class Seen:
    """A Prometheus that has seen a dlserve under load: its API, when that was, and the server's own /metrics."""

    prometheus: httpx.Client
    start: float
    end: float
    metrics: str


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    program("prometheus")
    folder = tmp_path_factory.mktemp("prometheus")
    # One model of the three fits on each of the two workers, so that some must always go.
    server = Server("--workers", "2", "--devices", "cpu", "--cache-mb", "1", "--host-cache-mb", "4", cwd=folder)
    try:
        server.wait_ready()
        prometheus = Prometheus(folder, server.url.removeprefix("http://"))
        try:
            with server.client() as client, prometheus.client() as api:
                start = time.time()
                for service in SERVICES:
                    simulated(client, service, forward_s=0.001, load_s=0.001, host_load_s=0.0005, bytes=1_000_000)
                load_until_seen(client, api)
                yield Seen(api, start, time.time(), client.get("/metrics").text)
        finally:
            prometheus.stop()
    finally:
        server.stop()


def series(seen: Seen, query: Query) -> list[list[float]]:
    """The finite values of each series that a query finds over the time of the load."""
    data = ask(seen.prometheus, "query_range", query=query.filled_in(), start=seen.start, end=seen.end, step="1s")
    found = [[float(sample[1]) for sample in one["values"]] for one in data["result"]]
    return [[number for number in numbers if math.isfinite(number)] for numbers in found]


def identity(query: Query) -> str:
    return f"{query.row}/{query.panel}"


@pytest.mark.parametrize(
    "query", [query for query in QUERIES if query.row not in (GPU_ROW, "annotations")], ids=identity
)
def test_every_query_of_the_dashboard_returns_data(seen: Seen, query: Query) -> None:
    assert any(series(seen, query)), query.filled_in()


@pytest.mark.parametrize("query", [query for query in QUERIES if query.row in (GPU_ROW, "annotations")], ids=identity)
def test_queries_that_need_a_gpu_or_a_restart_are_at_least_understood(seen: Seen, query: Query) -> None:
    ask(seen.prometheus, "query", query=query.filled_in())


@pytest.mark.gpu
@pytest.mark.parametrize("query", [query for query in QUERIES if query.row == GPU_ROW], ids=identity)
def test_with_a_gpu_the_queries_of_its_row_return_data(seen: Seen, query: Query) -> None:
    if shutil.which("nvidia-smi") is None:
        pytest.skip("needs an NVIDIA GPU")
    assert any(series(seen, query)), query.filled_in()


def test_selecting_one_service_shows_that_service_alone(seen: Seen) -> None:
    query = next(query for query in QUERIES if query.panel == "Requests by service")
    chosen = query.expression.replace("$service", "beta").replace("$__rate_interval", "5s")
    found = ask(seen.prometheus, "query", query=chosen)["result"]
    assert [one["metric"]["service"] for one in found] == ["beta"]


@pytest.mark.parametrize(("variable", "values"), [("service", sorted(SERVICES)), ("worker", ["0", "1"])])
def test_the_template_variables_offer_what_the_server_has(seen: Seen, variable: str, values: list[str]) -> None:
    definition = next(one for one in DASHBOARD["templating"]["list"] if one["name"] == variable)["definition"]
    found = re.fullmatch(r"label_values\((\w+), (\w+)\)", definition)
    assert found is not None, definition
    assert ask(seen.prometheus, f"label/{found[2]}/values", **{"match[]": found[1]}) == values


def test_promtool_finds_nothing_to_complain_of_in_the_metrics(seen: Seen) -> None:
    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=seen.metrics,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_accepts_the_settings() -> None:
    done = subprocess.run(
        [program("promtool"), "check", "config", str(SETTINGS)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rows_are_there_in_order() -> None:
    assert [title for title, _ in rows()] == [
        "Traffic",
        "Latency (seen by the server)",
        "Where the time goes",
        "Model cache",
        "Workers",
        "Batch size",
        GPU_ROW,
        "DeepDetect's names",
    ]
    assert all(panels for _, panels in rows())


def test_panels_lie_within_the_grid_and_do_not_overlap() -> None:
    boxes = [(panel["title"], panel["gridPos"]) for panel in [*DASHBOARD["panels"], *PANELS]]
    distinct = list({json.dumps(box, sort_keys=True): (title, box) for title, box in boxes}.values())
    for title, box in distinct:
        assert 0 <= box["x"] < box["x"] + box["w"] <= 24, title
        assert box["h"] > 0, title
    for (one, a), (other, b) in itertools.combinations(distinct, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or above, f"{one} and {other} overlap"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: str(panel["title"]))
def test_a_panel_says_what_it_shows_in_which_unit_from_the_chosen_source(panel: dict[str, Any]) -> None:
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert target["datasource"]["uid"] == "${datasource}"
        assert target["legendFormat"]
    references = [target["refId"] for target in panel["targets"]]
    assert len(set(references)) == len(references)


def test_ids_and_titles_within_a_row_are_unique() -> None:
    ids = [panel["id"] for panel in [*(one for one in DASHBOARD["panels"] if one["type"] == "row"), *PANELS]]
    assert len(set(ids)) == len(ids)
    for title, panels in rows():
        names = [panel["title"] for panel in panels]
        assert len(set(names)) == len(names), title


def test_every_metric_that_the_server_keeps_for_people_is_on_the_dashboard(seen: Seen) -> None:
    kept = set(re.findall(r"^# TYPE ((?:dlserve|deepdetect)_\w+) \w+", seen.metrics, flags=re.MULTILINE))
    shown = " ".join(query.expression for query in QUERIES)
    assert kept
    assert {metric for metric in kept if metric not in shown} == set()
