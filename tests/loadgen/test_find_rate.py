"""dlload.find_rate: runs at the rates that the search asks for, and what is kept of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from dlclient.results import Reason, Run, read_run
from dlclient.search_result import read_search
from dlload.find_rate import MOST_REPEATS, RateFinder
from dlload.load_options import DEFAULT_SENDERS, LoadOptions
from dlload.options import StreamOptions
from dlload.plan import Open
from dlload.search import SearchBounds
from dlload.slo import parse_slo
from dlload.standing import Figures

from tests.dashboards.conftest import StreamResult, record

if TYPE_CHECKING:
    from tests.conftest import Server
    from tests.loadgen.conftest import Locust

LATE = Reason("send-lag", "requests were sent late", "give it a core")
SLO = parse_slo("p90<20ms,errors<1%")


def finder(folder: Path, start: float = 50.0) -> RateFinder:
    load = LoadOptions(slo=SLO, bounds=SearchBounds(start, highest_per_s=400.0))
    return RateFinder(StreamOptions(url="http://127.0.0.1:1", load=load), folder)


def open_load(options: StreamOptions | None) -> Open:
    assert options is not None
    assert isinstance(options.load.load, Open)
    return options.load.load


def measured(rate: float, requests: int) -> Figures:
    """Of a server that is quick up to 100 a second, and slow above."""
    latency_s = 0.005 if rate <= 100 else 0.050
    latencies = np.full(requests, latency_s) + np.random.default_rng(1).random(requests) * 1e-4
    return Figures(requests, 0, requests / rate, rate, latencies, latencies)


RUN = StreamResult({"warm": [record("warm", 0, 0.0, 0.005, "a")]}, ("a",)).run()


def test_the_search_ends_at_the_edge_and_confirms_it_in_a_run_of_its_own(tmp_path: Path) -> None:
    search = finder(tmp_path)
    seeds, phases = set(), set()
    while (options := search.next()) is not None:
        load = open_load(options)
        assert options.results is not None
        assert options.results.parent == tmp_path
        assert options.load.warm_up.requests
        assert load.requests is not None
        seeds.add(options.load.seeds.schedule)
        phases.add(options.phases)
        search.observe(RUN, measured(load.course.pieces[0].first, load.requests))
    text, good = search.finish()
    result = read_search(tmp_path)
    assert good
    assert "FOUND" in text
    assert result.found == "found"
    assert result.rate_per_s == pytest.approx(100, rel=0.1)
    assert result.confirmed_in == result.runs[-1]
    assert len(seeds) == len(result.runs), "equal seeds would repeat the same schedule"
    assert phases == {("warm",)}
    assert [point.rate_per_s for point in result.curve] == sorted(point.rate_per_s for point in result.curve)


def test_a_probe_that_was_late_once_is_made_again_with_other_draws(tmp_path: Path) -> None:
    search = finder(tmp_path)
    first = search.next()
    load = open_load(first)
    search.observe(run_with(LATE), measured(50.0, load.requests or 1))
    second = search.next()
    assert first is not None
    assert second is not None
    assert open_load(second).course.pieces == load.course.pieces
    assert second.load.seeds.schedule != first.load.seeds.schedule
    search.observe(RUN, measured(50.0, load.requests or 1))
    assert open_load(search.next()).course.pieces != load.course.pieces


def test_probes_that_cannot_be_trusted_end_the_search_without_a_number(tmp_path: Path) -> None:
    search = finder(tmp_path)
    runs = 0
    while (options := search.next()) is not None:
        search.observe(run_with(LATE), measured(50.0, open_load(options).requests or 1))
        runs += 1
    assert runs == MOST_REPEATS + 1
    text, good = search.finish()
    assert not good
    assert "INVALID: no rate" in text
    assert "requests were sent late" in text
    assert read_search(tmp_path).rate_per_s is None


def test_a_server_that_restarted_ends_the_search_at_once(tmp_path: Path) -> None:
    search = finder(tmp_path)
    load = open_load(search.next())
    restarted = run_with(Reason("server-restarted", "the server restarted", "see its log"))
    search.observe(restarted, measured(50.0, load.requests or 1))
    assert search.next() is None
    assert "the server restarted" in search.finish()[0]


def test_a_load_tester_without_free_senders_is_no_slow_server(tmp_path: Path) -> None:
    search = finder(tmp_path, start=200.0)
    load = open_load(search.next())
    run = run_with(Reason("senders-exhausted", "all senders were busy", "lower the rate"))
    figures = measured(200.0, load.requests or 1)
    search.observe(run, replace(figures, service_s=np.full(len(figures.response_s), 0.005)))
    assert search.next() is None
    text, good = search.finish()
    assert not good
    assert "more requests in flight (-u)" in text


def run_with(reason: Reason) -> Run:
    return StreamResult({"warm": [record("warm", 0, 0.0, 0.005, "a")]}, ("a",), reasons=(reason,)).run()


def test_too_much_for_the_server_is_an_answer_and_no_defect(tmp_path: Path) -> None:
    search = finder(tmp_path, start=200.0)
    load = open_load(search.next())
    run = run_with(Reason("senders-exhausted", "all senders were busy", "lower the rate"))
    search.observe(run, measured(200.0, load.requests or 1))
    assert open_load(search.next()).course.pieces[0].first < 200.0


@pytest.mark.timeout(240)
def test_the_stream_finds_a_rate_and_leaves_every_probe(
    start_server: Callable[..., "Server"], locust: Callable[..., "Locust"], tmp_path: Path
) -> None:
    server = start_server("--workers", "2", "--devices", "cpu").wait_ready()
    with server.client() as client:
        body = {"mllib": "simulated", "parameters": {"mllib": {"forward_s": 0.001, "bytes": 1000}}}
        assert client.put("/services/a", json=body).status_code == 201
    one = locust(
        *("--headless", "--no-report", "--find-rate", "200:400", "--slo", "p50<5s", "--max-send-lag", "60000"),
        *("--results", "found", "-H", server.url),
    )
    out, err = one.process.communicate(timeout=200)
    assert one.process.returncode == 0, out + err
    result = read_search(tmp_path / "found")
    assert result.found in {"always-met", "found"}, "a machine that cannot send 400 a second in time finds less"
    assert result.rate_per_s is not None
    assert (result.rate_per_s == 400) == (result.found == "always-met")
    assert 200 <= result.rate_per_s <= 400
    assert len(result.runs) >= 3
    for name in result.runs:
        run = read_run(tmp_path / "found" / name)
        assert run.plan.users == DEFAULT_SENDERS, "an open loop needs more in flight than the one user of a closed one"
        assert run.phases[0].clock.warm_up_requests >= 200
        assert run.phases[0].objectives
    assert json.loads((tmp_path / "found" / "search.json").read_text())["schema"] == "dlserve-search/1"
    again = locust(
        *("--headless", "--no-report", "--find-rate", "400:400", "--slo", "p50<5s", "--max-send-lag", "60000"),
        *("--results", "found", "--overwrite", "-H", server.url),
    )
    out, err = again.process.communicate(timeout=200)
    assert again.process.returncode == 0, out + err
    kept = {path.name for path in (tmp_path / "found").iterdir() if path.is_dir()}
    assert kept == set(read_search(tmp_path / "found").runs), "nothing of the earlier search is left"
