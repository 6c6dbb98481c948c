"""DeepDetect's JSON predict: a request body -> what is to be run."""

import re
from typing import Any

import msgspec

from dlserve.config import Config
from dlserve.errors import BadJsonError, FieldError, InputError
from dlserve.front import parameters
from dlserve.front.fetch import Fetcher
from dlserve.messages import Item

_LONGEST_PATH = 4096
_URL = re.compile(r"https?://", re.IGNORECASE)
_IMAGE_IN_BASE64 = re.compile(r"/9j/|iVBORw0KGgo|R0lGOD|UklGR|Qk|SUkq|TU0A|AAAADGpQ|UD[1-7]")
"""How base64 of JPEG, PNG, GIF, WebP, BMP, TIFF, JPEG 2000 and PNM begins: "/9j/..." is no path."""
_parse = msgspec.json.Decoder().decode


def document(body: bytes) -> dict[str, Any]:
    """The body as a JSON object without nulls, whatever its Content-Type. Raises BadJsonError."""
    try:
        parsed = parameters.without_nulls(_parse(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise BadJsonError(f"the body is not JSON: {exc}") from exc
    if not isinstance(parsed, dict):
        raise BadJsonError("the body must be a JSON object")
    return parsed


def service_name(given: dict[str, Any]) -> str:
    """The service that a predict is for. Raises FieldError."""
    name = given.get("service")
    if not isinstance(name, str):
        raise FieldError('a predict needs "service": the name of a service, as a string')
    return name


class DataReader:
    """Turns `data` into items: base64 and paths go on to the worker as they are, URLs are fetched here."""

    def __init__(self, config: Config, fetcher: Fetcher) -> None:
        self._most = config.limits.images
        self._most_bytes = config.limits.body_bytes
        self._has_roots = bool(config.data_roots)
        self._fetcher = fetcher

    async def read(self, given: dict[str, Any]) -> tuple[tuple[Item, ...], list[bytes]]:
        """Items and their bytes, in the request's order. Raises InputError."""
        data = given.get("data")
        if data is None:
            raise InputError('missing data: send "data": a list of base64 images, paths or URLs')
        if not isinstance(data, list) or not all(isinstance(datum, str) for datum in data):
            raise InputError("data must be a list of strings: base64 images, paths or URLs")
        if len(data) > self._most:
            raise InputError(
                f"data has {len(data)} images: send at most {self._most} in one call, or raise --max-images"
            )
        items, body = [], []
        left = self._most_bytes  # for all URLs together, as for a body
        for position, datum in enumerate(data):
            item, content = await self._read_one(str(position), datum, left)
            if item.uri == datum:
                left -= len(content)
            items.append(item)
            body.append(content)
        return tuple(items), body

    async def _read_one(self, position: str, datum: str, left: int) -> tuple[Item, bytes]:
        if _URL.match(datum):
            content = await self._fetcher.fetch(datum, left)
            return Item("bytes", len(content), datum), content
        if self._is_path(datum):
            if not self._has_roots:
                raise InputError(
                    f"{datum!r:.200} looks like a path on the server, which serves none: "
                    "send the image as base64, or start dlserve with --data-root DIR"
                )
            content = datum.encode()
            return Item("path", len(content), datum), content
        try:
            content = datum.encode("ascii")
        except UnicodeEncodeError:
            raise InputError(f"data[{position}] is neither base64, nor a path, nor a URL: {datum[:80]!r}") from None
        return Item("base64", len(content), position), content

    @staticmethod
    def _is_path(datum: str) -> bool:
        """Base64 has no dots, and an image's begins in few ways; what else has a dot or a slash is meant as a path."""
        if len(datum) > _LONGEST_PATH or _IMAGE_IN_BASE64.match(datum):
            return False
        return datum.startswith("/") or "." in datum
