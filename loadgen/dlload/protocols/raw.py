"""The image's bytes as the body, one image a request: dlserve's fast way in, or any server's at a path of one's own."""

import re
from collections.abc import Sequence
from urllib.parse import quote

from dlload.errors import OptionError
from dlload.protocols.answer import AnswerPath, judge_any
from dlload.protocols.base import Outcome, Protocol, content_type
from dlload.protocols.deepdetect import BEST, judge, top_classes

PLACEHOLDERS = ("service", "cache", "worker")


class Raw(Protocol):
    """dlserve's POST /predict/{service}; the answers are DeepDetect's."""

    name = "raw"
    one_image = True

    def encode(self, image: bytes, service: str = "") -> bytes:  # noqa: ARG002  the same for all
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
        return self._post(path, content_type(image), image)

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:
        """As for DeepDetect's own way in."""
        return judge(status, body, images)

    def content(self, body: bytes) -> str | None:
        """As for DeepDetect's own way in."""
        return top_classes(body)


class RawTemplate(Raw):
    """Any server that takes an image file by POST, such as at /predictions/{service}."""

    def __init__(self, url: str, api_key: str | None, template: str, answer_path: AnswerPath | None) -> None:
        super().__init__(url, api_key)
        self._template = UrlTemplate(template)
        self._answer_path = answer_path

    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """POST to the template's path."""
        (image,) = images
        return self._post(self._template.fill(service, cache, worker), content_type(image), image)

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:  # noqa: ARG002  always one
        """Good is any 2xx with a body, in which the answer path leads somewhere if there is one."""
        return Outcome(error=judge_any(status, body, self._answer_path))


class UrlTemplate:
    """A path with the placeholders {service}, {cache} and {worker}; what is not wished for is "". Raises OptionError."""

    def __init__(self, template: str) -> None:
        if not template.startswith("/") or not template.isascii() or not template.isprintable() or " " in template:
            raise OptionError(f"--url-template {template}: write a path such as /predictions/{{service}}")
        pieces = re.split(r"\{([^{}]*)\}", template)
        self._texts, self._names = pieces[::2], pieces[1::2]
        if unknown := [name for name in self._names if name not in PLACEHOLDERS]:
            raise OptionError(
                f"--url-template {template}: {{{unknown[0]}}} is no placeholder; there are "
                + ", ".join(f"{{{name}}}" for name in PLACEHOLDERS)
            )

    def fill(self, service: str, cache: str | None, worker: int | None) -> str:
        """The path, quoted."""
        values = {"service": service, "cache": cache or "", "worker": "" if worker is None else str(worker)}
        filled = [self._texts[0]]
        for name, text in zip(self._names, self._texts[1:], strict=True):
            filled += (quote(values[name], safe=""), text)
        return "".join(filled)
