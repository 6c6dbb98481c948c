"""Any API that takes JSON: a body written once by hand, with placeholders that become each request's values.

    {"model": "{service}", "instances": [{"b64": "{image_base64}"}]}

A string that is nothing but a placeholder becomes the value itself (a number stays one, what is not wished for is null);
within a longer string it becomes text. A list whose only element holds {image_base64} has one such element per image.
"""

import base64
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from dlload.errors import OptionError
from dlload.protocols.answer import AnswerPath, judge_any
from dlload.protocols.base import Outcome, Protocol
from dlload.protocols.raw import UrlTemplate

IMAGE = "image_base64"
PLACEHOLDERS = (IMAGE, "service", "cache", "worker", "batch_size")
_PLACEHOLDER = re.compile(r"\{([a-z_0-9]+)\}")

Value = str | int | None


@dataclass(frozen=True, slots=True)
class _Hole:
    """A value that stands for itself in the JSON, or (`is_text`) is text within a string."""

    name: str
    is_text: bool


@dataclass(frozen=True, slots=True)
class _Repeat:
    """Once per image, with commas between."""

    parts: "tuple[_Part, ...]"


_Part = bytes | _Hole | _Repeat


class JsonTemplate:
    """Filled by joining bytes: everything but the values is encoded beforehand."""

    def __init__(self, content: bytes, known: Sequence[str], what: str) -> None:
        """`content`: the JSON document; `known`: names of placeholders; `what`: for messages. Raises OptionError."""
        try:
            document = msgspec.json.decode(content)
        except (msgspec.DecodeError, RecursionError) as exc:
            raise OptionError(
                f'{what}: no JSON ({exc}); placeholders stand within strings: {{"data": ["{{{IMAGE}}}"]}}'
            ) from exc
        self._known = known
        self._what = what
        self._parts = tuple(self._compile(document))
        self.repeats = any(isinstance(part, _Repeat) for part in self._parts)
        """Whether it takes any number of images."""
        self.names = frozenset(_names(self._parts))

    def fill(self, values: Mapping[str, Value], images: Sequence[bytes] = ()) -> bytes:
        """The document. `images`: base64, one after the other as the document takes them."""
        return b"".join(_filled(self._parts, values, images))

    def _compile(self, node: object) -> Iterator[_Part]:
        if isinstance(node, str):
            yield from self._string(node)
        elif isinstance(node, dict):
            yield b"{"
            for number, (key, value) in enumerate(node.items()):
                yield b"," if number else b""
                yield from self._string(key, is_key=True)
                yield b":"
                yield from self._compile(value)
            yield b"}"
        elif isinstance(node, list):
            yield from self._list(node)
        else:
            yield msgspec.json.encode(node)

    def _list(self, node: list[object]) -> Iterator[_Part]:
        yield b"["
        if len(node) == 1 and IMAGE in _names(inner := tuple(self._compile(node[0]))):
            yield from inner if any(isinstance(part, _Repeat) for part in inner) else (_Repeat(inner),)
        else:
            for number, value in enumerate(node):
                yield b"," if number else b""
                yield from self._compile(value)
        yield b"]"

    def _string(self, text: str, *, is_key: bool = False) -> Iterator[_Part]:
        pieces = _PLACEHOLDER.split(text)
        for name in pieces[1::2]:
            if name not in self._known:
                raise OptionError(
                    f"{self._what}: {{{name}}} is no placeholder; there are "
                    + ", ".join(f"{{{known}}}" for known in self._known)
                )
        if not is_key and len(pieces) == 3 and not pieces[0] and not pieces[2]:
            yield _Hole(pieces[1], is_text=False)
            return
        yield b'"'
        for number, piece in enumerate(pieces):
            yield _Hole(piece, is_text=True) if number % 2 else msgspec.json.encode(piece)[1:-1]
        yield b'"'


def _names(parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if isinstance(part, _Hole):
            yield part.name
        elif isinstance(part, _Repeat):
            yield from _names(part.parts)


def _filled(parts: Sequence[_Part], values: Mapping[str, Value], images: Sequence[bytes]) -> Iterator[bytes]:
    for part in parts:
        if isinstance(part, bytes):
            yield part
        elif isinstance(part, _Repeat):
            for number, image in enumerate(images):
                yield b"," if number else b""
                yield from _filled(part.parts, values, (image,))
        elif part.name == IMAGE:
            yield images[0] if part.is_text else b'"' + images[0] + b'"'
        elif part.is_text:
            value = values[part.name]
            yield b"" if value is None else msgspec.json.encode(str(value))[1:-1]
        else:
            yield msgspec.json.encode(values[part.name])


class Template(Protocol):
    """POST of the filled template to a path."""

    name = "json"

    def __init__(
        self, url: str, api_key: str | None, path: str, body: bytes, answer_path: AnswerPath | None = None
    ) -> None:
        """`path` and `body`: the templates. Raises OptionError."""
        super().__init__(url, api_key)
        self._path = UrlTemplate(path)
        self._body = JsonTemplate(body, PLACEHOLDERS, "--body-template")
        if IMAGE not in self._body.names:
            raise OptionError(f"--body-template: no {{{IMAGE}}} in it, so no image would be sent")
        self.one_image = not self._body.repeats
        self._answer_path = answer_path

    def encode(self, image: bytes, service: str = "") -> bytes:  # noqa: ARG002  the same for all
        """Base64, which needs no escapes in JSON."""
        return base64.b64encode(image)

    def request(self, service: str, images: Sequence[bytes], cache: str | None, worker: int | None) -> bytes:
        """The templates with this request's values."""
        values: dict[str, Value] = {"service": service, "cache": cache, "worker": worker, "batch_size": len(images)}
        path = self._path.fill(service, cache, worker)
        return self._post(path, "application/json", self._body.fill(values, images))

    def outcome(self, status: int, body: bytes, images: int) -> Outcome:  # noqa: ARG002  no way to count them
        """Good is any 2xx with a body, in which the answer path leads somewhere if there is one."""
        return Outcome(error=judge_any(status, body, self._answer_path))
