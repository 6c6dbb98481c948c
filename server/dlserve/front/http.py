"""uvicorn's HTTP/1.1 protocol, less what it costs a request to pass it: see docs/performance.md."""

import asyncio
import logging
from collections.abc import Iterable, MutableMapping
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from dlserve.front.heads import Heads

JSON = b"application/json"
Piece = bytes | memoryview
"""Of a body."""
KEEP_ALIVE_S = 75.0
"""How long a connection may wait for its next request. Longer than a load tester's pauses: one that is closed under its next
request would count as an error."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class Exchange(RequestResponseCycle):
    """One request and its answer. To ASGI applications it is their `send`; `respond` is the short way.

    What is the same at the beginning of each stands in the class.
    """

    logger = logging.getLogger("uvicorn.error")
    access_log = False
    disconnected = False
    more_body = True
    body: Any = b""
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    _event: asyncio.Event | None = None
    _news = False
    """Whether something has come since `receive` last told of it, while nobody waited."""

    def __init__(self, protocol: "Protocol", scope: MutableMapping[str, Any], *, keep_alive: bool) -> None:
        self.scope = scope  # type: ignore[assignment]
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.default_headers = protocol.server_state.default_headers
        self.on_response = protocol.on_response_complete
        self._tasks: set[Any] = protocol.tasks
        self.keep_alive = keep_alive
        self.waiting_for_100_continue = protocol.expect_100_continue

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]  # what uvicorn waits for
        """Set when something has come. Made for those who wait: most bodies are there when they are asked for."""
        if self._event is None:
            self._event = asyncio.Event()
            if self._news:
                self._event.set()
        return self._event

    def tell(self) -> None:
        """Something has come."""
        if self._event is None:
            self._news = True
        else:
            self._event.set()

    async def run_asgi(self, app: Any) -> None:
        """Have the application answer. What it fails to do ends in an error, or in the connection's end."""
        try:
            await app(self.scope, self.receive, self)
        except BaseException:
            self.logger.exception("the application failed")
        finally:
            if not (self.response_complete or self.disconnected):
                self._give_up()
            self.on_response = _nothing
            self._tasks.discard(asyncio.current_task())

    def _give_up(self) -> None:
        """Answer in the application's place, which has not, or not to the end."""
        if self.response_started:
            self.transport.close()
        else:
            self.keep_alive = False
            self.respond(500, b"Internal Server Error", kind=b"text/plain; charset=utf-8")

    @property
    def send(self) -> "Exchange":  # type: ignore[override]  # what uvicorn hands to the application
        """ASGI's `send`: this itself."""
        return self

    def take_whole(self) -> Piece:
        """The body, if all of it has come: then nobody has to wait for it. Nothing otherwise."""
        if self.more_body or self.disconnected:
            return b""
        self.flow.resume_reading()
        body: Piece = self.body
        self.body = b""
        return body

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        """Send a part of an answer."""
        await super().send(message)  # type: ignore[arg-type]

    def respond(
        self, status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = (), kind: bytes = JSON
    ) -> None:
        """Send a whole answer, in one write; `kind`: its Content-Type. Lost if the client has left."""
        if self.disconnected:
            return
        head = b"%scontent-type: %s\r\ncontent-length: %d\r\n" % (STATUS_LINE[status], kind, len(body))
        for name, value in (*self.default_headers, *headers):
            head += b"%s: %s\r\n" % (name, value)
        if not self.keep_alive:
            head += b"connection: close\r\n"
        self.response_started = self.response_complete = True
        self.transport.write(head + b"\r\n" + (b"" if self.scope["method"] == "HEAD" else body))
        self.tell()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _nothing() -> None:
    """In place of a method of the connection, which refers to the exchange: neither would go before Python looks for cycles."""


class Protocol(HttpToolsProtocol):
    """One connection. A body that comes in one piece is never copied again, and what is the same for all requests is made once."""

    cycle: Exchange  # uvicorn's own class, but for this
    idle_since: float | None = None
    """When its last answer was sent, if nothing has come since; on the event loop's clock."""
    _heads = Heads()
    """Of all connections."""
    _between = True
    """Whether what comes next is the beginning of a request."""
    _missing = 0
    """Bytes of a body whose head the parser has not seen."""

    def data_received(self, data: bytes) -> None:
        """Bytes of requests."""
        self.idle_since = None
        begin, end = 0, len(data)
        while begin < end:
            if not self._missing:
                if not self._between:
                    super().data_received(data[begin:])
                    return
                size, known = self._heads.find(data, begin)
                if known is None:
                    self._parse(data[begin:], size)
                    return
                begin += size
                self.expect_100_continue = False
                self._begin({**known.scope, "server": self.server, "client": self.client}, keep_alive=True)
                self._missing = known.body_bytes
            till = min(end, begin + self._missing)
            if till > begin:
                self._missing -= till - begin
                self.on_body(memoryview(data)[begin:till])
                begin = till
            if not self._missing:
                self.on_message_complete()

    def _parse(self, data: bytes, size: int) -> None:
        """Have the parser see to requests from the beginning of one on, and remember its head: so many bytes, 0 if it is not all there."""
        before = self.cycle
        super().data_received(data)
        cycle = self.cycle
        if self.parser.should_upgrade():
            self._between = False  # to a protocol that nobody speaks here: uvicorn's parser refuses what follows
        elif size and cycle is not before and cycle.keep_alive and len(cycle.body) == len(data) - size:
            # One head, and it ended where it seems to.
            self._heads.keep(data[:size], dict(cycle.scope))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Begin to answer; the exchange itself says when it has, which costs less than a callback of its task."""
        self.tasks.add(self.loop.create_task(cycle.run_asgi(app)))

    def on_message_begin(self) -> None:
        """A request."""
        self._between = False
        self.url = b""
        self.expect_100_continue = False
        self.headers = []

    def on_headers_complete(self) -> None:
        """All of a request but its body has come."""
        parser = self.parser
        url = httptools.parse_url(self.url)
        raw_path = url.path
        path = raw_path.decode("ascii")
        version = parser.get_http_version()
        scope = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "server": self.server,
            "client": self.client,
            "scheme": "http",
            "root_path": "",
            "headers": self.headers,
            "method": parser.get_method().decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": url.query or b"",
        }
        self._begin(scope, keep_alive=version != "1.0" and parser.should_keep_alive())

    def _begin(self, scope: MutableMapping[str, Any], *, keep_alive: bool) -> None:
        """See to a request whose body may be on its way, or let it wait for the one before."""
        before = self.cycle
        self.cycle = Exchange(self, scope, keep_alive=keep_alive)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))

    def on_body(self, body: Piece) -> None:
        """A piece of a body: kept as it is, where uvicorn copies each into a bytearray and that into the message."""
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body = b"".join((cycle.body, body)) if cycle.body else body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.tell()

    def on_message_complete(self) -> None:
        """All of a request has come."""
        self._between = True
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.tell()

    def on_response_complete(self) -> None:
        """An answer was sent: the next request's turn. That none comes for long is seen by `close_idle`, not by a timer each time."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self.idle_since = self.loop.time()


async def close_idle(state: ServerState) -> None:
    """Until cancelled: close connections on which nothing has come for `KEEP_ALIVE_S`."""
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(KEEP_ALIVE_S / 10)
        longest_ago = loop.time() - KEEP_ALIVE_S
        for connection in list(state.connections):
            if isinstance(connection, Protocol) and (connection.idle_since or longest_ago) < longest_ago:
                connection.transport.close()
