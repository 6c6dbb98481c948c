"""Everything that can go wrong, and the one table from an error to DeepDetect's status.

StartError                     the server cannot start; the message says what to change
ApiError                       a request that gets an error answer
├── BadJsonError         400        the body is not JSON
├── FieldError           400  400   a mandatory field is missing or of a wrong type
├── QueryError           400  400   a query parameter has a bad value
├── UnauthorizedError    401        the API key is missing or wrong
├── NotFoundError        404        no such path; DELETE of an unknown service
├── MethodError          405        the path exists, the method does not
├── BodyTimeoutError     408        the body stopped coming
├── BodyTooLargeError    413        more bytes than --max-body-mb
├── MediaTypeError       415        a raw predict whose body is no image by its Content-Type
├── UnknownLibraryError  404  1000  mllib unknown or empty
├── ServiceNotFoundError 404  1002
├── ConnectorError       404  1004  the input connector is not available
├── InputError           400  1005  unreadable image, missing data, bad input parameters
├── RequestError         400  1006  bad mllib or output parameters, repository, model
├── InternalError        500  500   the engine failed
├── UnexpectedError      500  1007  a defect of the server
├── ServiceExistsError   409  1014
├── QueueFullError       429        all queues are full, or too long for its deadline; Retry-After says when to come back
├── NoWorkerError        503        no worker is up, or two died on this request
└── DeadlineError        504        its deadline passed before it ran
"""

from typing import ClassVar


class StartError(Exception):
    """The server cannot start; the message says what to change."""


class ApiError(Exception):
    """A request that gets an error answer, in the shape of the API that it came by: see `front.asgi.error_body`."""

    status: ClassVar[int] = 500
    msg: ClassVar[str] = "InternalError"
    dd_code: ClassVar[int] = 0
    prefix: ClassVar[str] = ""
    headers: ClassVar[dict[str, str]] = {}

    @property
    def text(self) -> str:
        """What went wrong and what to do next, in a sentence."""
        return self.prefix + str(self)

    def body(self) -> dict[str, object]:
        """The answer: ``{"status": {"code", "msg"[, "dd_code"][, "dd_msg"]}}``."""
        status: dict[str, object] = {"code": self.status, "msg": self.msg}
        if self.dd_code:
            status["dd_code"] = self.dd_code
        if self.text:
            status["dd_msg"] = self.text
        return {"status": status}


class BadJsonError(ApiError):
    """The body is not JSON."""

    status, msg = 400, "BadRequest"


class FieldError(ApiError):
    """A mandatory field is missing or of a wrong type."""

    status, msg, dd_code = 400, "BadRequest", 400


class QueryError(ApiError):
    """A query parameter has a bad value."""

    status, msg, dd_code = 400, "Bad request", 400


class UnauthorizedError(ApiError):
    """The API key is missing or wrong."""

    status, msg = 401, "Unauthorized"
    headers: ClassVar[dict[str, str]] = {"WWW-Authenticate": "Bearer"}


class NotFoundError(ApiError):
    """No such path, or DELETE of an unknown service."""

    status, msg = 404, "NotFound"


class MethodError(ApiError):
    """The path exists, the method does not."""

    status, msg = 405, "Method Not Allowed"


class BodyTimeoutError(ApiError):
    """The body stopped coming."""

    status, msg = 408, "Request Timeout"
    headers: ClassVar[dict[str, str]] = {"Connection": "close"}


class BodyTooLargeError(ApiError):
    """The body has more bytes than the server takes."""

    status, msg = 413, "Payload Too Large"


class MediaTypeError(ApiError):
    """A raw predict whose Content-Type is no image."""

    status, msg = 415, "Unsupported Media Type"


class UnknownLibraryError(ApiError):
    """mllib is unknown or empty."""

    status, msg, dd_code, prefix = 404, "NotFound", 1000, "Unknown Library: "


class ServiceNotFoundError(ApiError):
    """There is no service of that name."""

    status, msg, dd_code, prefix = 404, "NotFound", 1002, "Service Not Found: "


class ConnectorError(ApiError):
    """The input connector is not available."""

    status, msg, dd_code, prefix = 404, "NotFound", 1004, "Input Connector Not Found: "


class InputError(ApiError):
    """An unreadable image, missing data, or a bad input parameter."""

    status, msg, dd_code, prefix = 400, "BadRequest", 1005, "Service Input Error: "


class RequestError(ApiError):
    """A bad mllib or output parameter, a repository or model that cannot be used."""

    status, msg, dd_code, prefix = 400, "BadRequest", 1006, "Service Bad Request Error: "


class InternalError(ApiError):
    """The engine failed on this request."""

    status, msg, dd_code = 500, "InternalError", 500


class UnexpectedError(ApiError):
    """A defect of the server; its log has the traceback."""

    status, msg, dd_code = 500, "InternalError", 1007


class ServiceExistsError(ApiError):
    """A service of that name exists already."""

    status, msg, dd_code, prefix = 409, "Conflict", 1014, "Service already exists: "


class QueueFullError(ApiError):
    """The queues, or the bytes of the bodies held, are at their limit, or a call's deadline cannot be met.

    `reason` is what the metrics call it.
    """

    status, msg = 429, "Too Many Requests"

    def __init__(self, message: str, reason: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.headers = {"Retry-After": str(retry_after_s)}  # type: ignore[misc]  # per answer, unlike the others


class NoWorkerError(ApiError):
    """No worker is up, or two died on this request."""

    status, msg = 503, "Service Unavailable"
    headers: ClassVar[dict[str, str]] = {"Retry-After": "1"}


class DeadlineError(ApiError):
    """A call's deadline passed before it ran."""

    status, msg = 504, "Gateway Timeout"
