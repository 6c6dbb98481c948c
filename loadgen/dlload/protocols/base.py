"""What a protocol must be able to do: a request of the plan -> the bytes to send; the answer -> what it says."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an answer says. `error` is "" for a good one. What the server does not tell is None."""

    error: str = ""
    worker: int | None = None
    cache: str | None = None
    batch_size: int | None = None
    server_s: float | None = None
    stages: dict[str, float] | None = None
    answer: str | None = None
    """Digest of the content of a good answer, where the protocol is asked to make one."""


class Protocol(ABC):
    """One way to ask one server. Pure: no I/O, no clock."""

    name: ClassVar[str]

    def __init__(self, url: str, api_key: str | None) -> None:
        parts = urlsplit(url)
        self._base_path = parts.path.rstrip("/")
        lines = [f"Host: {parts.netloc.rpartition('@')[2]}", "User-Agent: dlload"]
        if api_key:
            lines.append(f"Authorization: Bearer {api_key}")
        self._common_headers = "".join(f"{line}\r\n" for line in lines)

    @abstractmethod
    def encode(self, image: bytes) -> bytes:
        """An image as it will lie in requests; done once per image, before the clock starts."""

    @abstractmethod
    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """The complete HTTP request for encoded images. dlserve only: start as cold as `cache`, run on `worker`."""

    @abstractmethod
    def outcome(self, status: int, body: bytes, images: int) -> Outcome:
        """What the answer to a request with that many images says."""

    def _post(self, path: str, content_type: str, body: bytes) -> bytes:
        head = (
            f"POST {self._base_path}{path} HTTP/1.1\r\n{self._common_headers}"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return head.encode("ascii") + body
