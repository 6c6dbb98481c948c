"""dd_bench as people start it, but in this process: a whole Python for each test would take longer than what it tests."""

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from dlclient.dd_bench import cli

from tests.clients.dd_bench.fake_deepdetect import FakeDeepDetect

IMAGE = b"\xff\xd8 an image, for all that a fake server knows"


@dataclass(frozen=True)
class Ran:
    """What came of a run."""

    code: int
    out: str
    err: str

    def rows(self) -> list[str]:
        """The lines of batch sizes."""
        return [line for line in self.out.splitlines() if line.startswith(">>> ")]


@pytest.fixture
def dd_bench(capfd: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Ran]]:
    """Run it with a URL (None: without) and options."""
    handler = signal.getsignal(signal.SIGTERM)

    def run(url: str | None, *options: object) -> Ran:
        capfd.readouterr()
        try:
            code = cli.main([*(["--host", url] if url else []), *map(str, options)])
        except SystemExit as exc:
            code = int(str(exc.code))
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    yield run
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def deepdetect() -> Iterator[FakeDeepDetect]:
    """One that has the service `net`, made for torch."""
    with FakeDeepDetect(services={"net": {"mllib": "torch", "model": {"repository": "/models/net"}}}) as fake:
        yield fake


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of three images."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.jpg").write_bytes(IMAGE + bytes([number]))
    return folder


@pytest.fixture
def names(tmp_path: Path) -> Path:
    """A list of three names on a server, with a blank line as DeepDetect's own list could have."""
    path = tmp_path / "list.txt"
    path.write_text("a.jpg\r\n\nb.jpg\nc.jpg\n\n")
    return path
