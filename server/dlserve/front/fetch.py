"""Images named by URL: fetched by the front end, only from hosts that `--allow-url` permits."""

from collections.abc import Sequence

import httpx

from dlserve.errors import InputError

MOST_REDIRECTS = 5
TIMEOUT_S = 30.0


class Fetcher:
    """Reads http(s) URLs within limits. Redirects are followed only to permitted hosts."""

    def __init__(self, allowed: Sequence[str], most_bytes: int) -> None:
        """`allowed`: "host" (any port) or "host:port", lower case."""
        self._allowed = frozenset(allowed)
        self._most_bytes = most_bytes
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False)

    async def fetch(self, url: str) -> bytes:
        """The content at `url`. Raises InputError saying why not."""
        shown = url[:200]
        for _ in range(MOST_REDIRECTS + 1):
            try:
                parsed = httpx.URL(url)
            except httpx.InvalidURL as exc:
                raise InputError(f"{shown!r} is no valid URL: {exc}") from exc
            self._check_host(parsed)
            try:
                async with self._client.stream("GET", parsed) as response:
                    if response.has_redirect_location:
                        url = str(parsed.join(response.headers["location"]))
                        continue
                    if response.status_code != httpx.codes.OK:
                        raise InputError(f"{shown!r} answered {response.status_code}")
                    return await self._content(response, shown)
            except httpx.HTTPError as exc:
                raise InputError(f"{shown!r} could not be fetched: {exc or type(exc).__name__}") from exc
        raise InputError(f"{shown!r} redirects more than {MOST_REDIRECTS} times")

    def _check_host(self, url: httpx.URL) -> None:
        if url.scheme not in ("http", "https"):
            raise InputError(f"{str(url)[:200]!r}: only http and https URLs are fetched")
        host = url.host.lower()
        port = url.port or (443 if url.scheme == "https" else 80)
        if host not in self._allowed and f"{host}:{port}" not in self._allowed:
            raise InputError(
                f"URLs on {host!r} are not fetched: send the image itself, or start dlserve with --allow-url {host}"
            )

    async def _content(self, response: httpx.Response, shown: str) -> bytes:
        content = bytearray()
        async for piece in response.aiter_bytes():
            content += piece
            if len(content) > self._most_bytes:
                raise InputError(
                    f"{shown!r} has more than {self._most_bytes >> 20} MiB; raise --max-body-mb to allow it"
                )
        return bytes(content)

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._client.aclose()
