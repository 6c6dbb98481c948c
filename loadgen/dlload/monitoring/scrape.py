"""Scrapes the target's metrics while the stream runs: one greenlet, one keep-alive connection, a GET each interval."""

import logging
from collections.abc import Callable
from time import perf_counter
from urllib.parse import urlsplit

import gevent
from dlclient.timeline import Note, Sample

from dlload.connection import Connection, Exchange
from dlload.errors import TargetError
from dlload.monitoring.series import LINES_AT_ONCE, QUERY, Reading, add_lines, difference, slices, wanted_lines

logger = logging.getLogger(__name__)

_TIMEOUT_S = 5.0


class Scraper:
    """Calls `keep` with a Sample for each interval between two scrapes, and with a Note when scraping fails or works again.

    A server without metrics is no error: it is said once, noted, and not asked again.
    """

    def __init__(self, url: str, api_key: str | None, interval_s: float, keep: Callable[[Sample | Note], None]) -> None:
        """`url`: of the metrics, such as http://127.0.0.1:8080/metrics."""
        self._url = url
        self._interval_s = interval_s
        self._keep = keep
        self._connection = Connection(url, _TIMEOUT_S)
        path = urlsplit(url).path or "/"
        query = urlsplit(url).query
        self._requests = [
            _get(url, f"{path}?{'&'.join(filter(None, (query, QUERY)))}", api_key),
            _get(url, f"{path}?{query}" if query else path, api_key),
        ]
        """To try in this order, until one is answered: some servers may not take a query."""

    def run(self) -> None:
        """Until killed, or until it is clear that the server has no metrics."""
        before: Reading | None = None
        trouble = ""
        due = perf_counter()
        try:
            while True:
                try:
                    reading = self._scrape()
                except TargetError as exc:
                    if str(exc) != trouble:
                        trouble = str(exc)
                        self._say(f"no metrics: {trouble}")
                    if before is None:
                        return
                else:
                    if trouble:
                        trouble = ""
                        self._say("metrics are there again")
                    if before is not None:
                        self._keep(self._sample(before, reading))
                    before = reading
                due = max(due + self._interval_s, perf_counter())
                gevent.sleep(due - perf_counter())
        finally:
            self._connection.close()

    def _sample(self, before: Reading, after: Reading) -> Sample:
        return Sample(
            t_s=round(after.at, 6),
            interval_s=round(after.at - before.at, 6),
            source=self._url,
            server=difference(before, after),
        )

    def _scrape(self) -> Reading:
        for request in self._requests:
            exchange = self._exchange(request)
            if exchange.status == 200:
                self._requests = [request]
                break
        if exchange.status != 200:
            raise TargetError(exchange.error or f"the answer has status {exchange.status}")
        reading = Reading(exchange.sent, exchange.done - exchange.sent)
        try:
            _parse(exchange.body, reading)
        except ValueError as exc:
            raise TargetError(f"the answer is not in Prometheus's text format: {exc}") from exc
        if not reading.series:
            raise TargetError("the answer has none of the series that are known here")
        return reading

    def _exchange(self, request: bytes) -> Exchange:
        if problem := self._connection.open():
            raise TargetError(problem)
        return self._connection.exchange(request)

    def _say(self, note: str) -> None:
        logger.info("%s: %s", self._url, note)
        self._keep(Note(t_s=round(perf_counter(), 6), source=self._url, note=note))


def _parse(body: bytes, reading: Reading) -> None:
    """In pieces of about a millisecond, so that nobody's request waits for it. Raises ValueError."""
    lines: list[bytes] = []
    for piece in slices(body):
        lines += wanted_lines(piece)
        gevent.sleep(0)
    for start in range(0, len(lines), LINES_AT_ONCE):
        add_lines(reading, lines[start : start + LINES_AT_ONCE])
        gevent.sleep(0)


def _get(url: str, target: str, api_key: str | None) -> bytes:
    key = f"Authorization: Bearer {api_key}\r\n" if api_key else ""
    return f"GET {target} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAccept: text/plain\r\n{key}\r\n".encode()
