"""`--preset`: one command builds, measures, serves, streams and stops, and leaves nothing running whatever ends it."""

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from dlclient.limits import kept_limits
from dlclient.results import read_run

from tests.clients.test_limits import GOOD
from tests.conftest import DEADLINE_S
from tests.loadgen.conftest import LOCUST, STREAM, FakeServer

ONE = ("--preset", "stream-2018", "--services", "squeezenet1_1", "--results", "out")
"""The quickest network of the preset to build and to run."""


class Command:
    """A locust of its own session, as a terminal would start it, with its output as it comes."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [LOCUST, "-f", STREAM, *arguments],
            cwd=folder,
            env={key: value for key, value in os.environ.items() if not key.startswith(("LOCUST_", "DLSERVE_"))},
            text=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.said = ""

    def wait_for(self, text: str) -> None:
        """Read on until a line has that text."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if text in line:
                return
        pytest.fail(f"it ended without {text!r}:\n{self.said}")

    def children(self) -> list[psutil.Process]:
        """All that it has started and that still runs."""
        found: list[psutil.Process] = psutil.Process(self.process.pid).children(recursive=True)
        return found

    def wait(self) -> int:
        """The exit code, once it has ended and said all."""
        self.said += self.process.communicate(timeout=DEADLINE_S)[0]
        return self.process.returncode


@pytest.fixture
def command(tmp_path: Path) -> Iterator[Callable[..., Command]]:
    started: list[Command] = []

    def start(*arguments: str) -> Command:
        started.append(Command(tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            os.killpg(one.process.pid, signal.SIGTERM)
            one.process.communicate(timeout=DEADLINE_S)


def test_one_command_builds_measures_serves_streams_and_stops(command: Callable[..., Command], tmp_path: Path) -> None:
    one = command(*ONE, "--requests", "60", "--phases", "warm,disk")
    one.wait_for("All users spawned")
    servers = [child for child in one.children() if "dlserve" in " ".join(child.cmdline())]
    assert servers
    code = one.wait()
    assert code == 0, one.said
    assert (tmp_path / "models/repository/squeezenet1_1/model.toml").exists()
    run = read_run(tmp_path / "out")
    assert (run.verdict, run.plan.services, run.plan.users) == ("valid", ("squeezenet1_1",), 2)
    assert [phase.temperatures for phase in run.phases] == [{"warm": 60}, {"disk": 60}]
    workers = run.target.info["dlserve"]["workers"]  # type: ignore[index]  # the server's own words carry no types
    assert len(workers) == 2
    assert kept_limits(tmp_path / "out") is not None
    for name in ("limits", "networks", "published"):
        assert (tmp_path / f"out/tables/{name}.md").exists(), name
    assert psutil.wait_procs(servers, timeout=DEADLINE_S)[1] == []


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("starting dlserve", signal.SIGTERM),
        ("starting dlserve", signal.SIGKILL),
        ("All users spawned", signal.SIGINT),
    ],
)
def test_whatever_ends_the_stream_ends_its_server_too(
    command: Callable[..., Command], tmp_path: Path, repository: Path, moment: str, number: signal.Signals
) -> None:
    shutil.copytree(repository / "squeezenet1_1", tmp_path / "models/squeezenet1_1")
    (tmp_path / "limits.json").write_text(json.dumps(GOOD))
    one = command(*ONE, "--model-dir", "models", "--limits", "limits.json", "--requests", "100000", "--no-report")
    one.wait_for(moment)
    started = one.children()
    assert started
    os.killpg(one.process.pid, number)  # what a terminal does on Ctrl-C
    assert one.wait() != 0, one.said
    assert psutil.wait_procs(started, timeout=DEADLINE_S)[1] == []
    left = [child.info["cmdline"] for child in psutil.process_iter(["cmdline"])]
    assert not any(str(tmp_path / "models") in (cmdline or ()) for cmdline in left)


def test_an_interrupt_while_building_leaves_neither_a_process_nor_half_a_model(
    command: Callable[..., Command], tmp_path: Path
) -> None:
    one = command("--preset", "stream-2018", "--services", "vgg19", "--results", "out")
    one.wait_for("drawing 143.7 million random weights")
    started = one.children()
    assert started
    os.killpg(one.process.pid, signal.SIGINT)
    assert one.wait() != 0, one.said
    assert psutil.wait_procs(started, timeout=DEADLINE_S)[1] == []
    assert list((tmp_path / "models/repository").iterdir()) == []
    assert not (tmp_path / "out").exists()


def test_with_a_host_the_presets_networks_are_asked_there(
    command: Callable[..., Command], serve: Callable[..., FakeServer], tmp_path: Path
) -> None:
    services = ("caffenet", "nin", "squeezenet1_1", "vgg16", "vgg19", "inception_bn", "resnet152", "resnext101_64x4d")
    server = serve(services=dict.fromkeys((*services, "another"), 1000))
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures/a.jpg").write_bytes(b"\xff\xd8")
    quick = ("--preset", "stream-2018", "--images", "pictures", "--no-report", "--requests", "40", "-H", server.url)
    one = command(*quick, "--results", "out")
    assert one.wait() == 0, one.said
    assert set(read_run(tmp_path / "out").plan.services) == set(services)
    del server.services["nin"]
    one = command(*quick, "--results", "other")
    assert one.wait() == 1
    assert "has no service nin" in one.said
    assert "--model-dir" in one.said


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--preset", "stream-2019"), "--preset stream-2019: "),
        (("--preset", "stream-2018", "--services", "resnet18"), "--services resnet18: not in --preset stream-2018"),
        (("--limits", "nowhere.json", "--headless"), "--limits nowhere.json: cannot be read"),
        (("--limits", "bad.json", "--headless"), "bad.json has schema ''"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_started_or_sent(
    command: Callable[..., Command], tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "bad.json").write_text("{}")
    one = command(*arguments)
    assert one.wait() == 1
    assert says in one.said
    assert not (tmp_path / "models").exists()
    assert not (tmp_path / "results").exists()
