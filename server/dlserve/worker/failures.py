"""The one table from an exception in a worker to the kind of failure that the front end is told."""

from types import MappingProxyType

from dlmodels.errors import (
    EngineUnavailableError,
    ImageError,
    LoadError,
    ModelError,
    OutOfMemoryError,
    RepositoryError,
    SettingError,
    UnknownArchitectureError,
    UnknownEngineError,
)

from dlserve.messages import FailureKind
from dlserve.worker.entry import CannotFitError
from dlserve.worker.files import PageCacheError


class InputError(Exception):
    """An input that cannot be read: bad base64, a path that is not allowed, a directory without images."""


class ExpiredError(Exception):
    """A job whose deadline has passed before it ran."""


class RequestError(Exception):
    """A request that this worker or this model cannot serve."""


_KINDS: MappingProxyType[type[Exception], FailureKind] = MappingProxyType(
    {
        ImageError: "input",
        InputError: "input",
        ExpiredError: "expired",
        RequestError: "request",
        CannotFitError: "request",
        PageCacheError: "request",
        EngineUnavailableError: "request",
        RepositoryError: "request",
        SettingError: "request",
        UnknownArchitectureError: "request",
        UnknownEngineError: "request",
        LoadError: "model",
        OutOfMemoryError: "memory",
        MemoryError: "memory",
    }
)


def kind_of(exc: Exception) -> FailureKind:
    """Whose fault it was; "internal" for whatever the table does not name."""
    return next((kind for cls, kind in _KINDS.items() if isinstance(exc, cls)), "internal")


def is_expected(exc: Exception) -> bool:
    """Whether the message alone tells the user enough; any other exception is a defect and its traceback is logged."""
    return isinstance(exc, ModelError | ImageError | InputError | ExpiredError | RequestError | MemoryError)


def message_of(exc: Exception) -> str:
    """The sentence for the client; a defect's own words are for the log."""
    if is_expected(exc):
        return str(exc) or type(exc).__name__
    return f"{type(exc).__name__}: {exc}. This is a defect of the server; the worker's log has the traceback"
