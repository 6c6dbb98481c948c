"""dlserve's fast way in: POST /predict/{service} with the image's bytes as the body, one image a request."""

from collections.abc import Sequence
from urllib.parse import quote

from dlload.protocols.base import Outcome, Protocol
from dlload.protocols.deepdetect import BEST, judge


class Raw(Protocol):
    """One image a request; the answers are DeepDetect's."""

    name = "raw"

    def encode(self, image: bytes) -> bytes:
        """As it is."""
        return image

    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """POST /predict/{service}?best=5&cache=...&worker=..."""
        (image,) = images
        path = f"/predict/{quote(service, safe='')}?best={BEST}"
        if cache is not None:
            path += f"&cache={cache}"
        if worker is not None:
            path += f"&worker={worker}"
        return self._post(path, _content_type(image), image)

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:
        """As for DeepDetect's own way in."""
        return judge(status, body, images)


def _content_type(image: bytes) -> str:
    if image.startswith(b"\xff\xd8"):
        return "image/jpeg"
    if image.startswith(b"\x89PNG"):
        return "image/png"
    return "application/octet-stream"
