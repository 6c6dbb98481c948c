"""Log lines as a process writes them."""

import json
import re
import subprocess
import sys

SCRIPT = """
import logging
from dlserve import logs
logs.configure("worker-3", "text")
logs.configure("worker-3", {log_format!r})
log = logging.getLogger("dlserve.test")
log.debug("too quiet")
log.info("two\\nlines and %s", "an argument")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("a defect")
"""


def lines(log_format: str) -> list[str]:
    """What the script logs."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(log_format=log_format)], capture_output=True, text=True, check=True
    )
    assert not done.stdout
    return done.stderr.splitlines()


def test_json_lines_are_one_object_each_and_name_the_process() -> None:
    first, second = map(json.loads, lines("json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first.pop("time"))
    assert first == {
        "level": "INFO",
        "process": "worker-3",
        "logger": "dlserve.test",
        "message": "two\nlines and an argument",
    }
    assert second["level"] == "ERROR"
    assert "ZeroDivisionError" in second["exception"]


def test_text_lines_name_the_process_and_show_the_traceback() -> None:
    text = lines("text")
    assert re.fullmatch(r"\S+Z INFO worker-3 dlserve\.test: two", text[0])
    assert any(re.fullmatch(r"\S+Z ERROR worker-3 dlserve\.test: a defect", line) for line in text)
    assert text[-1] == "ZeroDivisionError: division by zero"
