"""Images named by URL: fetched by the front end, only from hosts that `--allow-url` permits."""

import asyncio
from collections.abc import Sequence

import httpx

from dlserve.errors import InputError

MOST_REDIRECTS = 5
TIMEOUT_S = 30.0


class Fetcher:
    """Reads http(s) URLs within limits. Redirects are followed only to permitted hosts."""

    def __init__(self, allowed: Sequence[str]) -> None:
        """`allowed`: "host" (any port) or "host:port", lower case."""
        self._allowed = frozenset(allowed)
        self._client = httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False, headers={"Accept-Encoding": "identity"})

    async def fetch(self, url: str, most_bytes: int) -> bytes:
        """The content at `url`, at most `most_bytes`. Raises InputError saying why not."""
        shown = url[:200]
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._follow(httpx.URL(url), shown, most_bytes)
        except TimeoutError:
            raise InputError(f"{shown!r} was not there within {TIMEOUT_S:g} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as exc:
            raise InputError(f"{shown!r} could not be fetched: {exc or type(exc).__name__}") from exc

    async def _follow(self, url: httpx.URL, shown: str, most_bytes: int) -> bytes:
        for _ in range(MOST_REDIRECTS + 1):
            self._check_host(url)
            async with self._client.stream("GET", url) as response:
                self._client.cookies.clear()  # one caller's are nothing to another
                if response.has_redirect_location:
                    url = url.join(response.headers["location"])
                    continue
                if response.status_code != httpx.codes.OK:
                    raise InputError(f"{shown!r} answered {response.status_code}")
                return await self._content(response, shown, most_bytes)
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

    async def _content(self, response: httpx.Response, shown: str, most_bytes: int) -> bytes:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise InputError(f"{shown!r} is sent compressed, though that was not asked for")
        content = bytearray()
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > most_bytes:
                raise InputError(f"{shown!r}: the call's images have more bytes than --max-body-mb allows; send fewer")
        return bytes(content)

    async def close(self) -> None:
        """Close the connections that are kept."""
        await self._client.aclose()
