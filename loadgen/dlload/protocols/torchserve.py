"""TorchServe's inference API: POST /predictions/{model} with the image's bytes, one image a request."""

from collections.abc import Sequence
from urllib.parse import quote

import msgspec

from dlload.protocols.answer import AnswerPath, judge_any
from dlload.protocols.base import Outcome, Protocol, content_type


class _Failure(msgspec.Struct):
    """What TorchServe answers with where it cannot predict."""

    code: int
    type: str
    message: str


class TorchServe(Protocol):
    """Its answers are whatever a model's handler makes; it tells no stages."""

    name = "torchserve"
    one_image = True

    def __init__(self, url: str, api_key: str | None, answer_path: AnswerPath | None = None) -> None:
        super().__init__(url, api_key)
        self._answer_path = answer_path

    def encode(self, image: bytes, service: str = "") -> bytes:  # noqa: ARG002  the same for all
        """As it is."""
        return image

    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:  # noqa: ARG002  it has neither
        """POST /predictions/{model}."""
        (image,) = images
        return self._post(f"/predictions/{quote(service, safe='')}", content_type(image), image)

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:  # noqa: ARG002  always one
        """Good is any 2xx with a body that is no failure of TorchServe's."""
        if failure := failure_of(body):
            return Outcome(error=f"HTTP {status}: {failure}")
        return Outcome(error=judge_any(status, body, self._answer_path))


def failure_of(body: bytes) -> str:
    """The message of a failure, "" if the answer is none."""
    try:
        failure = msgspec.json.decode(body, type=_Failure)
    except (msgspec.DecodeError, RecursionError):
        return ""
    return f"{failure.type}: {failure.message}"
