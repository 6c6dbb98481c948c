"""The table of engines, and the memory of the machine they run on."""

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from dlmodels.engines import canonical_engine, create_engine, engine_type, known_engines
from dlmodels.engines.base import Memory, Place
from dlmodels.engines.host import allocating, host_memory
from dlmodels.errors import UnknownEngineError


def test_every_known_engine_can_be_created_and_bears_its_name() -> None:
    assert known_engines() == ("torch", "mxnet", "onnxruntime", "openvino", "opencv", "tensorrt", "simulated")
    for name in known_engines():
        engine = create_engine(name, "cpu", 2, host_bytes=3, map_files=False)
        assert (engine.name, engine.place) == (name, Place("cpu", 2, 3, map_files=False))
        assert engine.formats
        assert "cpu" in engine.devices or "cuda" in engine.devices


def test_creating_an_engine_and_asking_what_it_can_do_imports_no_framework() -> None:
    code = (
        "import sys; from dlmodels.engines import create_engine, known_engines\n"
        "for name in known_engines(): engine = create_engine(name, 'cpu', 1); engine.version(); engine.missing('cpu')\n"
        "print(*{'torch', 'mxnet', 'onnxruntime', 'openvino', 'tensorrt', 'onnx'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not done.stdout.strip()


def test_a_device_that_an_engine_does_not_compute_on_is_told_with_those_it_does() -> None:
    assert engine_type("openvino").missing("cuda:0") == ("openvino computes on cpu only, and this worker has cuda:0")
    assert engine_type("tensorrt").missing("cpu") == "tensorrt computes on cuda only, and this worker has cpu"
    assert engine_type("simulated").missing("cpu") == ""


@pytest.mark.parametrize("spelling", ["torch", "Torch", "TORCH"])
def test_mllib_is_spelt_in_any_case(spelling: str) -> None:
    assert canonical_engine(spelling) == "torch"


def test_caffe_is_opencv() -> None:
    assert canonical_engine("Caffe") == "opencv"


@pytest.mark.parametrize("mllib", ["caffe2", "tensorflow", "", "torch "])
def test_unknown_mllib_is_refused_with_those_that_there_are(mllib: str) -> None:
    with pytest.raises(UnknownEngineError, match=r"use one of: torch, mxnet, .*, simulated, caffe"):
        canonical_engine(mllib)


def test_unknown_engine_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(UnknownEngineError, match=r"no engine 'caffe'; there are: torch, mxnet, .*, simulated"):
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


def test_who_has_told_glibc_how_to_allocate_knows_better() -> None:
    assert allocating({"GLIBC_TUNABLES": "mine", "HOME": "/"}) == {"GLIBC_TUNABLES": "mine", "HOME": "/"}
    assert allocating({"HOME": "/"})["HOME"] == "/"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's tunables")
def test_what_is_freed_after_a_forward_is_not_faulted_in_again_and_what_is_mapped_for_itself_goes() -> None:
    program = """
import resource
import numpy as np

def faults_of(size, count):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [np.ones(size, np.uint8) for _ in range(count)]  # written all over, then freed
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return 4096 * int(open("/proc/self/statm").read().split()[1])

SMALL, LARGE = 24 << 20, 256 << 20
faults_of(SMALL, 8)
before = resident()
print(max(faults_of(SMALL, 8) for _ in range(5)))
faults_of(LARGE, 2)
print(resident() - before)
"""
    environment = {**os.environ}
    environment.pop("GLIBC_TUNABLES", None)
    done = subprocess.run(
        [sys.executable, "-c", program], env=allocating(environment), capture_output=True, text=True, check=True
    )
    faults, kept_bytes = map(int, done.stdout.split())
    assert faults < 10, "they are 96 huge pages, or 49,152 small ones"
    assert kept_bytes < 64 << 20
