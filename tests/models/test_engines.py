"""The table of engines, and the memory of the machine they run on."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dlmodels.engines import canonical_engine, create_engine, known_engines
from dlmodels.engines.base import Memory
from dlmodels.engines.host import host_memory
from dlmodels.errors import UnknownEngineError


def test_every_known_engine_can_be_created_and_bears_its_name() -> None:
    assert set(known_engines()) == {"torch", "simulated"}
    for name in known_engines():
        engine = create_engine(name, "cpu", 2)
        assert (engine.name, engine.device, engine.threads) == (name, "cpu", 2)


def test_creating_the_torch_engine_does_not_import_torch() -> None:
    code = "import sys; from dlmodels.engines import create_engine; create_engine('torch', 'cpu', 1).version();"
    subprocess.run([sys.executable, "-c", code + "sys.exit('torch' in sys.modules)"], check=True)


@pytest.mark.parametrize("spelling", ["torch", "Torch", "TORCH"])
def test_mllib_is_spelt_in_any_case(spelling: str) -> None:
    assert canonical_engine(spelling) == "torch"


@pytest.mark.parametrize("mllib", ["caffe", "tensorrt", "", "torch "])
def test_unknown_mllib_is_refused_with_those_that_there_are(mllib: str) -> None:
    with pytest.raises(UnknownEngineError, match=r"torch, simulated"):
        canonical_engine(mllib)


def test_unknown_engine_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownEngineError, match=r"no engine 'caffe'; there are: torch, simulated"):
        create_engine("caffe", "cpu", 1)


MEMINFO = "MemTotal:       1000 kB\nMemFree:        10 kB\nMemAvailable:    600 kB\n"


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        ("max", "1", Memory(1000 << 10, 600 << 10)),
        (str(500 << 10), str(300 << 10), Memory(500 << 10, 250 << 10)),
        (str(500 << 10), str(900 << 10), Memory(500 << 10, 0)),
        (str(5000 << 10), str(60 << 10), Memory(1000 << 10, 600 << 10)),
    ],
)
def test_host_memory_is_bounded_by_the_containers_limit(
    write: Callable[[str, str], Path], limit: str, used: str, expected: Memory
) -> None:
    write("cgroup/memory.max", limit + "\n")
    write("cgroup/memory.current", used + "\n")
    cgroup = write("cgroup/memory.stat", f"anon 1\ninactive_file {50 << 10}\nactive_file 7\n").parent
    assert host_memory(write("meminfo", MEMINFO), cgroup) == expected


def test_host_memory_without_a_container_is_the_machines(write: Callable[[str, str], Path], tmp_path: Path) -> None:
    assert host_memory(write("meminfo", MEMINFO), tmp_path / "none") == Memory(1000 << 10, 600 << 10)


def test_host_memory_of_this_machine_is_plausible() -> None:
    memory = host_memory()
    assert 0 < memory.free_bytes <= memory.total_bytes
