"""Heads of requests that were parsed before. A load tester's requests, and most clients', have the same one again and again."""

from collections.abc import MutableMapping
from typing import Any

import msgspec

MOST_BYTES = 4096
"""A longer head is parsed each time."""
MOST_HEADS = 256
"""That are remembered; beyond them all are forgotten: clients that number their requests never ask for one again."""
_END = b"\r\n\r\n"
_OF_A_CONNECTION = frozenset({"client", "server"})
"""What ASGI's scope says of the connection, not of the request."""
_TELLING = frozenset({b"content-length", b"transfer-encoding", b"expect", b"upgrade", b"connection"})
"""Headers that say how the rest is read, and what becomes of the connection."""


class Head(msgspec.Struct, frozen=True):
    """What a parser made of a request's line and headers."""

    scope: dict[str, Any]
    """ASGI's, but for what belongs to the connection."""
    body_bytes: int


class Heads:
    """What the parser made of requests' heads, by their bytes.

    Only of those that leave no question: HTTP/1.1, one Content-Length says where the body ends, and the connection goes on.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def __len__(self) -> int:
        return len(self._known)

    def find(self, data: bytes, begin: int) -> tuple[int, Head | None]:
        """The length of the head that begins there, 0 where its end has not come; and what was made of the same one before."""
        end = data.find(_END, begin, begin + MOST_BYTES)
        if end < 0:
            return 0, None
        end += len(_END)
        return end - begin, self._known.get(data[begin:end])

    def keep(self, head: bytes, scope: MutableMapping[str, Any]) -> None:
        """Remember what the parser made of a head after which the connection goes on, if it may be used again."""
        telling = [(name, value) for name, value in scope["headers"] if name in _TELLING]
        sizes = [value for name, value in telling if name == b"content-length" and value.isdigit()]
        others = [value.lower() for name, value in telling if name == b"connection"]
        if scope["http_version"] != "1.1" or len(sizes) != 1 or len(sizes) + len(others) != len(telling):
            return
        if any(value != b"keep-alive" for value in others):
            return
        if len(self._known) >= MOST_HEADS:
            self._known.clear()
        of_all = {key: value for key, value in scope.items() if key not in _OF_A_CONNECTION}
        self._known[head] = Head(of_all, int(sizes[0]))
