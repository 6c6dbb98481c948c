"""What can go wrong between this client, a server and the result files.

    ClientError
    ├── ConnectionFailedError  nothing listens there, the name is unknown, or the connection broke before an answer came
    ├── RequestTimeoutError    no complete answer within the client's time limit
    ├── ServerError            the server answered that it could not do it; has status, dd_code, dd_msg
    ├── BadAnswerError         an answer that is not what the API promises (no JSON, a field missing)
    ├── ResultError            a result folder or a file in it cannot be read
    ├── LocalServerError       a server of one's own on this machine cannot be made ready, started or stopped
    ├── ApiKeyError            a file that should hold a server's key holds none
    ├── SuiteError             a bench's suite cannot be read or asks for what there is not
    └── PointError             a point of a bench has no figures; has its kind, as bench_result.FailureKind

Each message names the thing and says what to do next.
"""


class ClientError(Exception):
    """Any failure that a caller of dlclient can do something about."""


class ConnectionFailedError(ClientError):
    """Nothing listens there, the name is unknown, or the connection broke before an answer came."""


class RequestTimeoutError(ClientError):
    """No complete answer within the client's time limit; the server may still be working on it."""


class ServerError(ClientError):
    """The server answered with an error: HTTP `status`, DeepDetect's `dd_code` and `dd_msg` where it gave them."""

    def __init__(self, message: str, *, status: int, dd_code: int | None, dd_msg: str) -> None:
        super().__init__(message)
        self.status = status
        self.dd_code = dd_code
        self.dd_msg = dd_msg


class BadAnswerError(ClientError):
    """An answer that is not what the API promises."""


class ResultError(ClientError):
    """A result folder or a file in it cannot be read."""


class LocalServerError(ClientError):
    """A server of one's own on this machine cannot be made ready, started or stopped."""


class ApiKeyError(ClientError):
    """A file that should hold a server's key holds none."""


class SuiteError(ClientError):
    """A bench's suite cannot be read, or asks for what there is not."""


class PointError(ClientError):
    """A point of a bench has no figures. `kind`: a bench_result.FailureKind."""

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind
