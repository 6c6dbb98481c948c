"""dlload.sender: which moments a record holds."""

from time import perf_counter

import gevent
import pytest
from dlclient.results import Record, Slot
from dlload import sender
from dlload.connection import Connection, Exchange
from dlload.encoded_images import encode_images
from dlload.phase import Phase
from dlload.protocols.raw import Raw
from dlload.sender import Sender
from gevent.event import Event

URL = "http://127.0.0.1:1"
ANSWER = b'{"status": {"code": 200}, "head": {}, "body": {"predictions": [{}]}}'


class Slow(Connection):
    """Takes 2 s to connect, by the sender's clock, and does so with `problem`."""

    def __init__(self, clock: list[float], problem: str) -> None:
        super().__init__(URL, 1.0)
        self.clock = clock
        self.problem = problem

    def open(self) -> str:
        self.clock[0] += 2.0
        return self.problem

    def exchange(self, request: bytes) -> Exchange:
        assert request.startswith(b"POST /predict/a")
        sent = self.clock[0]
        return Exchange(sent, sent + 0.5, sent + 0.5, 200, ANSWER, "")


def sent(monkeypatch: pytest.MonkeyPatch, problem: str) -> Record:
    clock = [perf_counter() + 10.0]
    monkeypatch.setattr(sender, "perf_counter", lambda: clock[0])
    monkeypatch.setattr("dlload.phase.perf_counter", lambda: clock[0])
    phase = Phase("warm", (Slot(0, "a", ("x.jpg",)),), lambda _: None)
    phase.open()
    raw = Raw(URL, None)
    images = encode_images(raw, ["a"], {"x.jpg": b"..."})
    Sender(raw, images, Slow(clock, problem), lambda _: None).empty(phase)
    (record,) = phase.records
    return record


def test_connecting_is_a_part_of_the_latency(monkeypatch: pytest.MonkeyPatch) -> None:
    record = sent(monkeypatch, "")
    assert record.error == ""
    assert record.send_lag_s == pytest.approx(2.0)
    assert record.latency_s == pytest.approx(2.5)


def test_a_connection_that_fails_took_the_time_that_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    record = sent(monkeypatch, "cannot connect")
    assert (record.status, record.error) == (0, "cannot connect")
    assert record.latency_s == pytest.approx(2.0)


class Never(Connection):
    """Waits for ever, in `open` or in `exchange`."""

    def __init__(self, where: str) -> None:
        super().__init__(URL, 1.0)
        self.where = where

    def open(self) -> str:
        if self.where == "open":
            Event().wait()
        return ""

    def exchange(self, request: bytes) -> Exchange:
        Event().wait()
        raise AssertionError(request)


@pytest.mark.parametrize("where", ["open", "exchange"])
def test_a_user_that_is_stopped_leaves_a_record_of_what_it_had_taken(where: str) -> None:
    phase = Phase("warm", (Slot(0, "a", ("x.jpg",)),), lambda _: None)
    phase.open()
    raw = Raw(URL, None)
    one = Sender(raw, encode_images(raw, ["a"], {"x.jpg": b"..."}), Never(where), lambda _: None, 2)
    user = gevent.spawn(one.empty, phase)
    gevent.idle()
    user.kill()
    (record,) = phase.records
    assert record.error.startswith("abandoned")
    assert (record.status, record.share) == (0, 2)
    assert record.due_s <= record.sent_s <= record.done_s
    assert phase.ended.is_set()
