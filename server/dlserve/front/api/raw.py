"""The fast way in: POST /predict/{service} with the bytes of one image."""

from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from dlserve.errors import MediaTypeError, QueryError
from dlserve.front import parameters
from dlserve.front.http import Piece
from dlserve.front.parameters import Execution, Output
from dlserve.messages import Item

TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/tiff", "application/octet-stream")
_TYPES = frozenset(kind.encode() for kind in TYPES)
_OPTIONS: dict[str, Callable[[str], Any]] = {"best": int, "confidence_threshold": float, "cache": str, "worker": int}
_ONE_IMAGE_URI = "0"
_PLAIN = Execution()


def check_type(headers: dict[bytes, bytes]) -> None:
    """Raises MediaTypeError unless the body says that it is an image."""
    given = headers.get(b"content-type", b"")
    if given in _TYPES:
        return
    sent = given.partition(b";")[0].strip().lower()
    if sent not in _TYPES:
        raise MediaTypeError(
            f"Content-Type {sent.decode('latin-1')!r}: send image bytes as one of {', '.join(TYPES)}, or JSON to /predict"
        )


def options(query: bytes, default: Output) -> tuple[Execution, Output]:
    """`?best=5&confidence_threshold=0.1&cache=disk&worker=0`. Raises QueryError or RequestError."""
    if not query:
        return _PLAIN, default
    given: dict[str, Any] = {}
    for key, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if key not in _OPTIONS:
            raise QueryError(f"unknown query parameter {key!r:.80}; there are: {', '.join(_OPTIONS)}")
        try:
            given[key] = _OPTIONS[key](value)
        except ValueError:
            raise QueryError(f"query parameter {key}={value!r:.80} is not a number") from None
    return parameters.execution(given), parameters.output(given, default)


def item(body: Sequence[Piece]) -> Item:
    """The one input of a raw call."""
    return Item("bytes", sum(map(len, body)), _ONE_IMAGE_URI)
