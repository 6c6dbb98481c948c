"""What the routes share that are no FastAPI: bodies in, errors out."""

import asyncio
import hmac
import zlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import msgspec

from dlserve.board import Board
from dlserve.config import Limits
from dlserve.errors import (
    ApiError,
    BadJsonError,
    BodyTimeoutError,
    BodyTooLargeError,
    QueueFullError,
    UnauthorizedError,
)
from dlserve.front.http import Exchange, Piece

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
BODY_IDLE_S = 30.0
"""How long a client may pause within a body; what it has sent so far is held all the while."""
KSERVE = "/v2"
"""Where the Open Inference Protocol lives."""
to_json = msgspec.json.Encoder().encode


class DisconnectedError(Exception):
    """The client went away before its request was complete."""


class _Reading:
    """A body that is on its way."""

    __slots__ = ("expired", "idle_looks", "task")

    def __init__(self, task: "asyncio.Task[Any] | None") -> None:
        self.task = task
        self.idle_looks = 0
        """How often the sweep has come by since something came."""
        self.expired = False


class Bodies:
    """Request bodies being held: read within the limits, and counted so that memory is bounded."""

    def __init__(self, limits: Limits, board: Board | None = None) -> None:
        """`board`: shared with other front ends, whose bodies count too; None: there are none."""
        self._limits = limits
        self._board = board
        self.held_bytes = 0
        """By this front end."""
        self._readings: set[_Reading] = set()

    async def read(self, headers: dict[bytes, bytes], receive: Receive) -> list[Piece]:
        """The body as the pieces that came. Give them back with `release`.

        Raises BodyTooLargeError, BodyTimeoutError, QueueFullError (too many bytes held in all) or DisconnectedError.
        """
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._limits.body_bytes:
            raise self._too_large()
        pieces: list[Piece] = []
        size = 0
        reading = _Reading(asyncio.current_task())
        self._readings.add(reading)
        try:
            while True:
                message = await receive()
                reading.idle_looks = 0
                if message["type"] == "http.disconnect":
                    raise DisconnectedError
                piece = message.get("body", b"")
                if piece:
                    self._hold(piece, size)
                    size += len(piece)
                    pieces.append(piece)
                if not message.get("more_body", False):
                    break
        except BaseException as exc:
            self._give_back(size)
            if reading.expired and isinstance(exc, asyncio.CancelledError) and reading.task is not None:
                reading.task.uncancel()
                raise BodyTimeoutError(
                    f"nothing of the body came for {BODY_IDLE_S:g} s; send the request again"
                ) from None
            raise
        finally:
            self._readings.discard(reading)
        return pieces

    def whole(self, exchange: Exchange) -> list[Piece]:
        """The body, if all of it has come; nothing otherwise: then `read` it. The same but that nothing has to look after it."""
        body = exchange.take_whole()
        if not body:
            return []
        self._hold(body, 0)
        return [body]

    async def sweep(self) -> None:
        """Until cancelled: give up on bodies that have stopped coming."""
        while True:
            await asyncio.sleep(BODY_IDLE_S / 2)
            for reading in self._readings:
                reading.idle_looks += 1
                if reading.idle_looks > 2 and reading.task is not None:  # twice nothing came in between
                    reading.expired = True
                    reading.task.cancel()

    def release(self, pieces: Iterable[Piece]) -> None:
        """The body is no longer needed."""
        self._give_back(sum(map(len, pieces)))

    def _hold(self, piece: Piece, before: int) -> None:
        """Count a piece of a body of which there were so many bytes before."""
        if before + len(piece) > self._limits.body_bytes:
            raise self._too_large()
        self.held_bytes += len(piece)
        if (self.held_bytes if self._board is None else self._held_by_all()) > self._limits.queue_bytes:
            self._give_back(len(piece))
            full = "the server holds as many request bytes as --queue-mb allows; come back later"
            raise QueueFullError(full, "body_bytes", 1)

    def _give_back(self, size: int) -> None:
        self.held_bytes -= size
        if self._board is not None:
            self._board.holds(self.held_bytes)

    def _held_by_all(self) -> int:
        assert self._board is not None
        self._board.holds(self.held_bytes)
        return self.held_bytes + self._board.held_elsewhere()

    def _too_large(self) -> BodyTooLargeError:
        return BodyTooLargeError(
            f"the body is larger than {self._limits.body_bytes >> 20} MiB; send fewer or smaller images, or raise --max-body-mb"
        )

    def decoded(self, headers: dict[bytes, bytes], pieces: list[Piece]) -> bytes:
        """The body in one piece, gzip or deflate undone. Raises BadJsonError or BodyTooLargeError."""
        body = bytes(pieces[0]) if len(pieces) == 1 else b"".join(pieces)
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        if encoding == b"identity":
            return body
        if encoding not in (b"gzip", b"deflate"):
            raise BadJsonError(
                f"Content-Encoding {encoding.decode('latin-1')!r} is not supported; send gzip, deflate or none"
            )
        inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
        try:
            plain = inflater.decompress(body, self._limits.body_bytes + 1)
        except zlib.error as exc:
            raise BadJsonError(f"the body is not valid {encoding.decode()}: {exc}") from exc
        if len(plain) > self._limits.body_bytes:
            raise self._too_large()
        if not inflater.eof:
            raise BadJsonError(f"the body is {encoding.decode()} that was cut off; send all of it")
        return plain


def check_key(headers: dict[bytes, bytes], key: str) -> None:
    """Raises UnauthorizedError unless the request carries the key."""
    sent = headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip() or headers.get(b"x-api-key", b"")
    if not hmac.compare_digest(sent, key.encode()):
        raise UnauthorizedError("send the server's key: Authorization: Bearer KEY")


async def left(receive: Receive) -> None:
    """Return when the client has closed its connection; the body must have been read."""
    message = await receive()
    while message["type"] != "http.disconnect":
        message = await receive()


def error_body(path: str, error: ApiError) -> dict[str, object]:
    """An error in the shape of the API that the path belongs to: KServe's below /v2, else DeepDetect's."""
    if path == KSERVE or path.startswith(KSERVE + "/"):
        return {"error": error.text or error.msg}
    return error.body()


def answer_error(send: Exchange, path: str, error: ApiError) -> None:
    """Send an error in the shape of the path's API."""
    headers = [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    send.respond(error.status, to_json(error_body(path, error)), headers)
