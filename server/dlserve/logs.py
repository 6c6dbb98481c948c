"""Log lines of every process of the server: one format, on standard error, each naming the process that wrote it."""

import json
import logging
from datetime import UTC, datetime


class _Lines(logging.Formatter):
    """``2026-01-31T12:00:00.123Z INFO worker-0 dlserve.worker.loop: message``, a traceback below it."""

    def __init__(self, process: str) -> None:
        super().__init__(f"%(asctime)s %(levelname)s {process.replace('%', '%%')} %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802  its name
        """ISO 8601 in UTC, milliseconds."""
        return _timestamp(record)


class _JsonLines(logging.Formatter):
    """One JSON object a line: time, level, process, logger, message and, after a failure, exception."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line; whatever is no ASCII is escaped, so a line stays a line."""
        line = {
            "time": _timestamp(record),
            "level": record.levelname,
            "process": self._process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def configure(process: str, log_format: str) -> None:
    """Send this process's log lines of level INFO and above to standard error. `log_format`: "text" or "json".

    `process` names the writer ("supervisor", "front", "worker-0"). Replaces what an earlier call set up.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_JsonLines(process) if log_format == "json" else _Lines(process))
    root = logging.getLogger()
    for previous in list(root.handlers):
        root.removeHandler(previous)
    root.addHandler(handler)
    root.setLevel(logging.INFO)
