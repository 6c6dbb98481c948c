"""The monitor against a real server of metrics, on real sockets, in a process that gevent has not patched."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gevent
import pytest
from dlclient.timeline import Note, Sample, read_samples
from dlload.monitoring.client import clock_offset_s, difference, usage
from dlload.monitoring.monitor import Monitor
from dlload.monitoring.scrape import Scraper
from psutil import Process

DEADLINE_S = 30.0


@dataclass
class Exporter:
    """Serves /metrics: a counter that grows by 5 with each scrape. `status`: by the number of the scrape, from 0."""

    statuses: dict[int, int] = field(default_factory=dict)
    takes_queries: bool = True
    paths: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def __enter__(self) -> "Exporter":
        exporter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                number = len(exporter.paths)
                exporter.paths.append(self.path)
                exporter.keys.append(self.headers.get("Authorization"))
                refused = "?" in self.path and not exporter.takes_queries
                status = 404 if refused else exporter.statuses.get(number, 200)
                text = f'dlserve_requests_total{{code="200",service="a"}} {5 * number}.0\n# junk\nother 1\n'.encode()
                self.wfile.write(f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
                """Say nothing."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()

    @property
    def url(self) -> str:
        """Of the metrics."""
        return f"http://127.0.0.1:{self._http.server_port}/metrics"


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    with Exporter() as one:
        yield one


def scraped(url: str, lines: int, api_key: str | None = None) -> list[Sample | Note]:
    """What a scraper keeps until there are so many lines, or until it gives up by itself."""
    kept: list[Sample | Note] = []
    enough = gevent.event.Event()

    def keep(line: Sample | Note) -> None:
        kept.append(line)
        if len(kept) >= lines:
            enough.set()

    scraper = gevent.spawn(Scraper(url, api_key, 0.01, keep).run)
    scraper.link(lambda _: enough.set())
    enough.wait(DEADLINE_S)
    scraper.kill()
    return kept


def test_each_interval_has_its_own_count(exporter: Exporter) -> None:
    samples = [line for line in scraped(exporter.url, 3, "secret") if isinstance(line, Sample)]
    assert [sample.server and sample.server.requests_by_code for sample in samples] == [{"200": 5.0}] * 3
    assert all(sample.interval_s > 0 for sample in samples)
    assert "name%5B%5D=dlserve_requests_total" in exporter.paths[0]
    assert set(exporter.keys) == {"Bearer secret"}


def test_a_server_that_takes_no_query_is_asked_without() -> None:
    with Exporter(takes_queries=False) as exporter:
        assert len(scraped(exporter.url, 2)) == 2
        assert set(exporter.paths[1:]) == {"/metrics"}


def test_a_server_without_metrics_is_noted_once_and_left_alone() -> None:
    with Exporter(statuses={0: 404, 1: 404}) as exporter:
        (note,) = scraped(exporter.url, 10)
    assert isinstance(note, Note)
    assert note.note == "no metrics: the answer has status 404"
    assert len(exporter.paths) == 2


def test_nobody_there_is_noted_too() -> None:
    (note,) = scraped("http://127.0.0.1:9/metrics", 10)
    assert isinstance(note, Note)
    assert "cannot connect" in note.note


def test_metrics_that_fail_for_a_while_are_noted_at_both_ends() -> None:
    with Exporter(statuses={2: 503, 3: 503}) as exporter:
        lines = scraped(exporter.url, 4)
    kinds = [line.note if isinstance(line, Note) else "sample" for line in lines]
    assert kinds == ["sample", "no metrics: the answer has status 503", "metrics are there again", "sample"]


def test_the_monitor_writes_what_it_sees(exporter: Exporter, tmp_path: Path) -> None:
    monitor = Monitor(tmp_path, exporter.url, interval_s=0.02)
    monitor.start()
    with gevent.Timeout(DEADLINE_S):
        while not ({True, False} <= {sample.server is None for sample in monitor.samples}):
            gevent.sleep(0.01)
    monitor.stop()
    monitor.stop()
    samples, notes = read_samples(tmp_path)
    assert samples == monitor.samples
    assert notes == []
    client = next(sample.client for sample in samples if sample.client is not None)
    assert client.resident_bytes > 1_000_000
    assert client.loop_delay_max_s is None or client.loop_delay_max_s >= 0


def test_a_folder_that_cannot_be_written_costs_the_samples_file_alone(tmp_path: Path) -> None:
    monitor = Monitor(tmp_path / "gone", None, interval_s=0.01)
    monitor.start()
    monitor.stop()
    assert monitor.samples


def test_a_busy_process_is_seen_as_one_core() -> None:
    process = Process()
    before = usage(process)
    end = time.process_time() + 0.05
    while time.process_time() < end:
        pass
    after = usage(process)
    sample = difference(before, after, [0.003, 0.001, 0.002])
    assert 0 < sample.cpu_cores * (after.at - before.at) <= after.cpu_s
    assert (sample.loop_delay_p50_s, sample.loop_delay_p99_s, sample.loop_delay_max_s) == (0.002, 0.003, 0.003)
    assert sample.system_busy is None or 0 <= sample.system_busy <= 1


def test_an_undisturbed_clock_keeps_its_offset() -> None:
    assert abs(clock_offset_s() - (time.time() - time.monotonic())) < 10
