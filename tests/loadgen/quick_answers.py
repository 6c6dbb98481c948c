"""Connections and shares for tests without a network: every request is answered at once, or when the test says so."""

from collections.abc import Callable, Sequence
from time import perf_counter

import gevent
from dlclient.exchange import Exchange
from dlclient.results import Record, Slot
from dlload.connection import Connection
from dlload.encoded_images import encode_images
from dlload.protocols.raw import Raw
from dlload.share import Share
from gevent.event import Event

URL = "http://127.0.0.1:1"
ANSWER = b'{"status": {"code": 200}, "head": {}, "body": {"predictions": [{}]}}'


class Quick(Connection):
    """Answers once `allowed` is set; keeps the paths that were asked."""

    def __init__(self, asked: list[str] | None = None, allowed: Event | None = None) -> None:
        super().__init__(URL, 1.0)
        self._asked = [] if asked is None else asked
        self._allowed = allowed

    def open(self) -> str:
        """Always there."""
        return ""

    def exchange(self, request: bytes) -> Exchange:
        """A good answer."""
        self._asked.append(request.split(b" ", 2)[1].decode())
        sent = perf_counter()
        gevent.sleep(0)  # as a network does: others come in between
        if self._allowed is not None:
            self._allowed.wait()
        done = perf_counter()
        return Exchange(sent, done, done, 200, ANSWER, "")


def slots(count: int, due_s: Callable[[int], float | None] = lambda _: None) -> list[Slot]:
    """Slot k asks service "k"."""
    return [Slot(index, str(index), ("x.jpg",), due_s(index)) for index in range(count)]


def quick_share(
    planned: Sequence[Slot],
    write: Callable[[Record], None],
    *,
    number: int = 0,
    of: int = 1,
    asked: list[str] | None = None,
    allowed: Event | None = None,
    drop_after_s: float | None = None,
) -> Share:
    """A share whose requests are answered without a network."""
    protocol = Raw(URL, None)
    images = encode_images(protocol, [slot.model for slot in planned], {"x.jpg": b"..."})
    return Share(
        planned,
        protocol,
        images,
        lambda: Quick(asked, allowed),
        write,
        number=number,
        of=of,
        drop_after_s=drop_after_s,
    )
