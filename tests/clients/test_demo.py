"""dlclient.demo: how the commands that it runs are stopped."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dlclient import demo

CHILD = """
import pathlib, signal, sys, time
got = []
signal.signal(signal.SIGINT, lambda *_: got.append("INT"))
print("ready", flush=True)
end = time.monotonic() + float(sys.argv[2])
while time.monotonic() < end and not got:
    time.sleep(0.01)
pathlib.Path(sys.argv[1]).write_text(" ".join(got))
"""


def child(note: Path, seconds: float) -> "subprocess.Popen[bytes]":
    process = subprocess.Popen([sys.executable, "-c", CHILD, str(note), str(seconds)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    return process


@pytest.mark.parametrize(
    ("told", "seconds", "patience_s", "got"),
    [
        (True, 0.2, 30.0, ""),  # the terminal has told it, it ends by itself
        (True, 30.0, 0.2, "INT"),  # it does not
        (False, 30.0, 30.0, "INT"),
    ],
)
def test_a_command_that_the_terminal_has_told_is_told_again_only_if_it_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool, seconds: float, patience_s: float, got: str
) -> None:
    process = child(tmp_path / "note", seconds)
    monkeypatch.setattr(demo, "STOP_S", patience_s)
    stop = demo._stop
    try:
        stop(process, told=told)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "note").read_text() == got


@pytest.mark.parametrize(("raised", "told"), [(KeyboardInterrupt, True), (demo.TerminatedError, False)])
def test_ctrl_c_reaches_the_command_by_itself_and_sigterm_does_not(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], told: bool
) -> None:
    seen: list[bool] = []

    def stop(process: "subprocess.Popen[bytes]", *, told: bool) -> None:
        seen.append(told)
        process.kill()

    def interrupt(_: "subprocess.Popen[bytes]") -> int:
        monkeypatch.undo()
        monkeypatch.setattr(demo, "_stop", stop)
        raise raised

    monkeypatch.setattr(subprocess.Popen, "wait", interrupt)
    with pytest.raises(raised):
        demo.run([sys.executable, "-c", "import time; time.sleep(60)"], "failed")
    assert seen == [told]


def test_a_server_that_never_gets_ready_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    silent = tmp_path / "dlserve"
    silent.write_text("#!/bin/sh\nexec sleep 60\n")
    silent.chmod(0o755)
    monkeypatch.setattr(demo, "_COMMANDS", tmp_path)
    monkeypatch.setattr(demo, "START_S", 0.05)
    with pytest.raises(demo.DemoError, match="not ready after"), demo.serving(1):
        raise AssertionError
    assert signal.getsignal(signal.SIGTERM) is not None
