"""Watches the server and the load generator while a stream runs, and writes what it sees to samples.jsonl."""

import logging
from collections.abc import Sequence
from pathlib import Path

import gevent
import msgspec
from dlclient.timeline import SAMPLES_FILE, Note, Sample, encode_line

from dlload.monitoring.client import ClientWatch
from dlload.monitoring.scrape import Scraper

logger = logging.getLogger(__name__)

INTERVAL_S = 1.0


class Monitor:
    """`start` it before the first phase, `stop` it after the last; `samples` is what was seen."""

    def __init__(
        self, folder: Path, metrics_url: str | None, api_key: str | None = None, interval_s: float = INTERVAL_S
    ) -> None:
        """`metrics_url`: None watches the load generator alone."""
        self.samples: list[Sample] = []
        self.notes: list[Note] = []
        self._path = folder / SAMPLES_FILE
        self._metrics_url = metrics_url
        self._api_key = api_key
        self._interval_s = interval_s
        self._greenlets: list[gevent.Greenlet] = []
        self._client: ClientWatch | None = None
        self._failed = False

    def start(self) -> None:
        """Begin; a file of an earlier run is replaced."""
        self._path.unlink(missing_ok=True)
        self._client = ClientWatch(self._interval_s, self._keep)
        self._greenlets = [gevent.spawn(self._client.probe), gevent.spawn(self._client.run)]
        if self._metrics_url is not None:
            scraper = Scraper(self._metrics_url, self._api_key, self._interval_s, self._keep)
            self._greenlets.append(gevent.spawn(scraper.run))

    def stop(self) -> None:
        """End, with a last sample of the client. May be called again."""
        greenlets, self._greenlets = self._greenlets, []
        gevent.killall(greenlets)
        if greenlets and self._client is not None:
            self._client.sample()

    def add(self, lines: Sequence[bytes]) -> None:
        """Take in lines of samples.jsonl that other processes of the load generator have seen."""
        for line in lines:
            self._keep(msgspec.json.decode(line, type=Sample))

    def _keep(self, line: Sample | Note) -> None:
        """One open a line: rarer than once a second, and nothing is left open when a run is interrupted."""
        if isinstance(line, Sample):
            self.samples.append(line)
        else:
            self.notes.append(line)
        if self._failed:
            return
        try:
            with self._path.open("ab", buffering=0) as file:
                file.write(encode_line(line))
        except OSError as exc:  # the records matter more, and will fail too if the disk is full
            self._failed = True
            logger.warning("%s cannot be written: %s; the run goes on without it", self._path, exc.strerror)
