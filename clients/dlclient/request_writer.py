"""Complete HTTP/1.1 requests, as bytes, for one server."""

from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import urlsplit

_NONE: Mapping[str, str] = MappingProxyType({})


class RequestWriter:
    """Knows the server's address and the key that it wants. Pure."""

    def __init__(self, url: str, api_key: str | None) -> None:
        parts = urlsplit(url)
        self._base_path = parts.path.rstrip("/")
        lines = [f"Host: {parts.netloc.rpartition('@')[2]}", "User-Agent: dlclient"]
        if api_key:
            lines.append(f"Authorization: Bearer {api_key}")
        self._common_headers = "".join(f"{line}\r\n" for line in lines)

    def write(
        self, method: str, path: str, content_type: str = "", body: bytes = b"", headers: Mapping[str, str] = _NONE
    ) -> bytes:
        """`path` begins with a slash and is quoted already; `headers` are beside the usual ones."""
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if content_type:
            more += f"Content-Type: {content_type}\r\n"
        head = (
            f"{method} {self._base_path}{path} HTTP/1.1\r\n{self._common_headers}{more}"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body
