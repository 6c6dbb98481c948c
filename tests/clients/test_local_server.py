"""dlclient.local_server: what it starts is stopped, and what cannot be started is told."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from dlclient import local_server
from dlclient.errors import LocalServerError
from dlclient.local_server import TerminatedError

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
    monkeypatch.setattr(local_server, "STOP_S", patience_s)
    try:
        local_server.stop(process, told=told)
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
    assert (tmp_path / "note").read_text() == got


@pytest.mark.parametrize(
    ("raised", "terminal", "told"),
    [(KeyboardInterrupt, True, True), (TerminatedError, True, False), (KeyboardInterrupt, False, False)],
)
def test_ctrl_c_reaches_only_a_command_of_the_terminal_by_itself_and_sigterm_none(
    monkeypatch: pytest.MonkeyPatch, raised: type[BaseException], terminal: bool, told: bool
) -> None:
    seen: list[bool] = []

    def stop(process: "subprocess.Popen[bytes]", *, told: bool) -> None:
        seen.append(told)
        process.kill()

    def interrupt(_: "subprocess.Popen[bytes]") -> int:
        monkeypatch.undo()
        monkeypatch.setattr(local_server, "stop", stop)
        raise raised

    monkeypatch.setattr(subprocess.Popen, "wait", interrupt)
    with pytest.raises(raised):
        local_server.run([sys.executable, "-c", "import time; time.sleep(60)"], "failed", terminal=terminal)
    assert seen == [told]


def test_a_command_that_fails_is_told() -> None:
    with pytest.raises(LocalServerError, match=r"the step failed \(exit code 3\)"):
        local_server.run([sys.executable, "-c", "raise SystemExit(3)"], "the step failed")


def script(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A dlserve that does what `text` says."""
    file = folder / "dlserve"
    file.write_text(f"#!{sys.executable}\nimport signal, sys, time\n{text}")
    file.chmod(0o755)
    monkeypatch.setattr(local_server, "COMMANDS", folder)


def serve(said: list[str]) -> str:
    with local_server.serving(Path("models"), workers=2, say=lambda _: None, echo=said.append) as url:
        return url


def test_a_server_that_never_gets_ready_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    script(tmp_path, monkeypatch, "time.sleep(60)")
    monkeypatch.setattr(local_server, "START_S", 0.05)
    with pytest.raises(LocalServerError, match="not ready after"):
        serve([])
    assert signal.getsignal(signal.SIGTERM) is not None


def test_a_server_that_ends_before_it_is_ready_is_told_and_its_log_is_shown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script(tmp_path, monkeypatch, "print('the models folder is damaged', file=sys.stderr)")
    said: list[str] = []
    with pytest.raises(LocalServerError, match="did not start"):
        serve(said)
    assert said == ["the models folder is damaged"]


def test_the_address_is_the_one_that_the_server_says_and_a_bad_end_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ready = "print('x ready: http://127.0.0.1:4711 (API)', file=sys.stderr, flush=True)\n"
    script(tmp_path, monkeypatch, f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))\n{ready}time.sleep(60)")
    assert serve([]) == "http://127.0.0.1:4711"
    script(tmp_path, monkeypatch, f"signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n{ready}time.sleep(60)")
    with pytest.raises(LocalServerError, match=r"did not stop in order \(exit code 7\)"):
        serve([])


def test_a_presets_networks_are_those_of_the_zoo_and_an_unknown_one_is_told() -> None:
    networks = local_server.preset_networks("stream-2018")
    assert len(networks) == 8
    assert {"vgg16", "squeezenet1_1", "resnet152"} < set(networks)
    with pytest.raises(LocalServerError, match=r"--preset stream-2019: .*stream-2018"):
        local_server.preset_networks("stream-2019")
