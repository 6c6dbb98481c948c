"""Whether an answer of no known shape is a good one: its status, its body, and what must be found in it."""

from dataclasses import dataclass

import msgspec

from dlload.errors import OptionError

_SHOWN = 200
"""Characters of an answer that an error quotes."""


@dataclass(frozen=True, slots=True)
class AnswerPath:
    """Where something must be in a JSON answer: names of keys and numbers of elements."""

    steps: tuple[str, ...]

    @classmethod
    def read(cls, text: str) -> "AnswerPath":
        """Out of "predictions.0.label". Raises OptionError."""
        steps = tuple(text.split("."))
        if not all(steps):
            raise OptionError(f"--answer-path {text}: write keys and numbers with dots between: predictions.0.label")
        return cls(steps)

    def problem(self, body: bytes) -> str:
        """ "" if it leads somewhere, to anything but null; else what is wrong."""
        try:
            found: object = msgspec.json.decode(body)
        except (msgspec.DecodeError, RecursionError) as exc:
            return f"no JSON answer: {exc}"
        for step in self.steps:
            if isinstance(found, dict):
                found = found.get(step)
            elif isinstance(found, list) and step.isdecimal() and int(step) < len(found):
                found = found[int(step)]
            else:
                found = None
            if found is None:
                return f"no {'.'.join(self.steps)} in the answer {quoted(body)}"
        return ""


def judge_any(status: int, body: bytes, path: AnswerPath | None) -> str:
    """ "" for a 2xx with a body in which `path` leads somewhere, else what is wrong."""
    if not 200 <= status < 300:
        return f"HTTP {status}: {quoted(body)}" if body else f"HTTP {status}"
    if not body:
        return "an answer without a body"
    return path.problem(body) if path else ""


def quoted(body: bytes) -> str:
    """The beginning of an answer, on one line."""
    return " ".join(body[:_SHOWN].decode("utf-8", "replace").split())
