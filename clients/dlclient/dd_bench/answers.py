"""What an answer to a predict call says, and what kind of failure one that is not good stands for. Pure."""

import re
from dataclasses import dataclass, field

import msgspec

from dlclient.bench_result import Failure, FailureKind
from dlclient.errors import (
    ClientError,
    ConnectionFailedError,
    PointError,
    RequestTimeoutError,
    ServerError,
)
from dlclient.exchange import Exchange

_OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|bad_alloc|memoryallocation|alloc_failed|can(no|')t allocate memory|not enough memory",
    re.IGNORECASE,
)
"""DeepDetect has no code for it: its torch answers 500 with PyTorch's or CUDA's own words."""
_UNSUPPORTED = frozenset({400, 404, 405, 413, 415, 501})
_AWAY = frozenset({502, 503})
"""A dlserve says 503 where two workers died on a call."""
_NO_SERVICE = 1002
_QUOTED = 200


class _Status(msgspec.Struct):
    msg: str = ""
    dd_code: int | None = None
    dd_msg: str = ""


class _Refused(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)


class _Head(msgspec.Struct):
    """Beyond `time`, anything may stand here: another server may mean something else by a name."""

    time: object = None
    timing: object = None
    cache: object = None
    batch_size: object = None


class _Body(msgspec.Struct):
    predictions: list[msgspec.Raw] | msgspec.UnsetType = msgspec.UNSET


class _Answer(msgspec.Struct):
    status: _Status = msgspec.field(default_factory=_Status)
    head: _Head = msgspec.field(default_factory=_Head)
    body: _Body = msgspec.field(default_factory=_Body)


_answers = msgspec.json.Decoder(_Answer)
_refusals = msgspec.json.Decoder(_Refused)


@dataclass(frozen=True, slots=True)
class Said:
    """Of a good answer."""

    server_s: float
    """head.time."""
    cache: str | None = None
    """Of a dlserve: where it found the weights."""
    batch_size: int | None = None
    """Of a dlserve: images of the largest forward that the call had a part in."""
    stages: dict[str, float] = field(default_factory=dict)
    """Of a dlserve: where the time went, in seconds."""


def read(exchange: Exchange, timeout_s: float, images: int, distinct: int) -> Said:
    """A good answer for so many images, of which so many differ: DeepDetect answers equal ones once.

    Raises PointError with the kind of failure.
    """
    if exchange.status == 0:
        if exchange.done - exchange.sent >= timeout_s:
            raise PointError(
                f"no answer within {timeout_s:g} s: allow more with --timeout, or a smaller batch", kind="time-out"
            )
        raise PointError(f"{exchange.error}; see the server's log, it may have ended", kind="crash")
    if not 200 <= exchange.status < 300:
        raise refusal(exchange.status, *_reason(exchange.body))
    try:
        answer = _answers.decode(exchange.body)
    except msgspec.DecodeError as exc:
        raise PointError(
            f"no answer of a DeepDetect-style server ({exc}): {exchange.body[:_QUOTED]!r}; see what listens there",
            kind="error",
        ) from exc
    predictions = answer.body.predictions
    if predictions is msgspec.UNSET:
        raise PointError("the answer holds no predictions; see the server's log", kind="error")
    if len(predictions) not in {images, distinct}:
        raise PointError(f"{len(predictions)} predictions for {images} images; see the server's log", kind="error")
    head = answer.head
    if not isinstance(head.time, int | float) or isinstance(head.time, bool) or head.time < 0:
        raise PointError("the answer does not tell the server's time (head.time); is it a DeepDetect?", kind="error")
    return Said(
        server_s=head.time / 1000,
        cache=head.cache if isinstance(head.cache, str) else None,
        batch_size=head.batch_size if isinstance(head.batch_size, int) else None,
        stages=_stages(head.timing),
    )


def refusal(status: int, said: str, dd_code: int | None) -> PointError:
    """An HTTP error as the failure of a point."""
    kind: FailureKind = "error"
    if _OUT_OF_MEMORY.search(said):
        kind = "out-of-memory"
    elif status in _UNSUPPORTED and dd_code != _NO_SERVICE:
        kind = "unsupported"
    elif status in _AWAY:
        kind = "crash"
    if dd_code == _NO_SERVICE:
        said += "; name one that is there, or have it created with --create DIR"
    code = f"HTTP {status}" + (f", {dd_code}" if dd_code else "")
    return PointError(f"the server answered {code}: {said or 'no reason given; see its log'}", kind=kind)


def as_failure(exc: ClientError, stage: str) -> Failure:
    """Any error of the client as the failure of a point."""
    if isinstance(exc, ServerError):
        exc = refusal(exc.status, exc.dd_msg or str(exc), exc.dd_code)
    kind: FailureKind = "error"
    if isinstance(exc, PointError):
        kind = msgspec.convert(exc.kind, FailureKind)
    elif isinstance(exc, RequestTimeoutError):
        kind = "time-out"
    elif isinstance(exc, ConnectionFailedError):
        kind = "crash"
    return Failure(kind=kind, stage=stage, text=str(exc))


def _reason(body: bytes) -> tuple[str, int | None]:
    """What an error answer says, and DeepDetect's code."""
    try:
        status = _refusals.decode(body).status
    except msgspec.DecodeError:
        return " ".join(body[:_QUOTED].decode("utf-8", "replace").split()), None
    return status.dd_msg or status.msg, status.dd_code


def _stages(timing: object) -> dict[str, float]:
    if not isinstance(timing, dict):
        return {}
    return {str(name): float(value) for name, value in timing.items() if isinstance(value, int | float)}
