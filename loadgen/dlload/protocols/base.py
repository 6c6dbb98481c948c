"""What a protocol must be able to do: a request of the plan -> the bytes to send; the answer -> what it says."""

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dlclient.request_writer import RequestWriter


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
    """What a good answer says of the images (see Protocol.content), where that was asked for."""


class Protocol(ABC):
    """One way to ask one server. Pure: no I/O, no clock."""

    name: ClassVar[str]
    one_image: bool = False
    """Whether a request carries one image and no more."""

    def __init__(self, url: str, api_key: str | None) -> None:
        self._writer = RequestWriter(url, api_key)

    def form(self, service: str) -> Hashable:  # noqa: ARG002  where it matters, it is overridden
        """What `encode` depends on beside the image: services of one form share their encoded images."""
        return None

    @abstractmethod
    def encode(self, image: bytes, service: str = "") -> bytes:
        """An image as it will lie in requests to a service; done once per image and form, before the clock starts.

        Raises ImagesError for one that cannot be made into what the service takes.
        """

    @abstractmethod
    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """The complete HTTP request for encoded images. dlserve only: start as cold as `cache`, run on `worker`."""

    @abstractmethod
    def outcome(self, status: int, body: bytes, images: int) -> Outcome:
        """What the answer to a request with that many images says."""

    def content(self, body: bytes) -> str | None:  # noqa: ARG002  where answers can be read, it is overridden
        """What a good answer says of its images: the most probable class of each. None: that cannot be read."""
        return None

    def _post(self, path: str, content_type: str, body: bytes) -> bytes:
        return self._writer.write("POST", path, content_type, body)


def content_type(image: bytes) -> str:
    """Of the file formats that servers look at the header for; a stream of bytes otherwise."""
    if image.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if image.startswith(b"\x89PNG"):
        return "image/png"
    return "application/octet-stream"
