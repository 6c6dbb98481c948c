"""dlclient.environment: what it reads from a machine that was made up, and from the one it runs on."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from dlclient import environment as module
from dlclient.environment import LOCK_FILE, environment

from tests.clients.fake_nvml import FakeGpu, FakeNvml


def put(root: Path, name: str, content: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_this_machine_is_described() -> None:
    found = environment()
    assert found.cpu_cores == len(os.sched_getaffinity(0))
    assert found.memory_bytes > 1 << 20
    assert found.versions["msgspec"]
    assert found.python.endswith(".".join(map(str, sys.version_info[:3])))
    assert found.kernel.startswith("Linux ")


def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    put(tmp_path, "etc/os-release", 'NAME="X"\nPRETTY_NAME="Debian GNU/Linux 12"\n')
    put(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast CPU 9000\nmodel name\t: other\n")
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n")
    put(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n")
    put(tmp_path, "sys/devices/system/cpu/cpu2/cpufreq/scaling_governor", "powersave\n")
    put(tmp_path, "sys/fs/cgroup/memory.max", "2147483648\n")
    put(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    found = environment(tmp_path)
    assert found.system == "Debian GNU/Linux 12"
    assert found.cpu_model == "Fast CPU 9000"
    assert found.cpu_governor == "performance, powersave"
    assert found.container_memory_bytes == 2 << 30
    assert found.container_cpus == 1.5


@pytest.mark.parametrize(
    "files",
    [
        {},
        {"sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/cpu.max": "max 100000"},
        {
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
        },
    ],
)
def test_no_limit_and_no_governor_are_no_error(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        put(tmp_path, name, content)
    found = environment(tmp_path)
    assert (found.container_memory_bytes, found.container_cpus) == (None, None)
    assert found.cpu_governor == "not visible"
    assert found.cpu_model


def test_the_limits_of_older_containers_are_read(tmp_path: Path) -> None:
    put(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "1073741824")
    put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_quota_us", "50000")
    put(tmp_path, "sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000")
    found = environment(tmp_path)
    assert (found.container_memory_bytes, found.container_cpus) == (1 << 30, 0.5)


def test_what_a_core_may_reach_is_read(tmp_path: Path) -> None:
    put(tmp_path, "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", "2400000\n")
    put(tmp_path, "sys/devices/system/cpu/cpu1/cpufreq/cpuinfo_max_freq", "3700000\n")
    put(tmp_path, "sys/devices/system/cpu/intel_pstate/no_turbo", "1\n")
    found = environment(tmp_path)
    assert (found.cpu_limit_hz, found.cpu_turbo) == (3_700_000_000, False)


def test_a_limit_of_any_group_around_this_process_counts(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/outer.slice/inner\n")
    for name, content in {
        "memory.max": "8589934592",
        "outer.slice/memory.max": "4294967296",
        "outer.slice/inner/memory.max": "max",
        "outer.slice/inner/memory.swap.max": "0",
        "outer.slice/cpu.max": "400000 100000",
        "outer.slice/inner/cpu.max": "50000 100000",
        "outer.slice/inner/pids.max": "512",
        "cpuset.cpus.effective": "0-31",
        "outer.slice/inner/cpuset.cpus.effective": "2-3,8",
    }.items():
        put(tmp_path, f"sys/fs/cgroup/{name}", content)
    found = environment(tmp_path)
    assert (found.container_memory_bytes, found.container_swap_bytes) == (4 << 30, 0)
    assert (found.container_cpus, found.container_processes, found.container_cpuset) == (0.5, 512, "2-3,8")


def test_each_controller_of_an_older_container_has_its_own_groups(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "4:memory:/docker/abc\n3:cpuset:/\n2:cpu,cpuacct:/docker/abc\n")
    put(tmp_path, "sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", "1073741824")
    put(tmp_path, "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_quota_us", "150000")
    put(tmp_path, "sys/fs/cgroup/cpu/docker/abc/cpu.cfs_period_us", "100000")
    put(tmp_path, "sys/fs/cgroup/cpuset/cpuset.cpus", "0-7")
    found = environment(tmp_path)
    assert (found.container_memory_bytes, found.container_cpus, found.container_cpuset) == (1 << 30, 1.5, "0-7")


def test_clocks_power_and_link_of_a_gpu_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "pynvml", FakeNvml([FakeGpu()]))
    found = environment()
    (gpu,) = found.gpus
    assert found.gpu_driver == "570.1"
    assert (gpu.name, gpu.memory_bytes) == ("Fake GPU", 16 << 30)
    assert (gpu.clock_hz, gpu.clock_limit_hz) == (1_410_000_000, 1_980_000_000)
    assert (gpu.memory_clock_hz, gpu.memory_clock_limit_hz) == (2_619_000_000, 2_619_000_000)
    assert gpu.power_limit_w == 350.0
    assert (gpu.pcie_generation, gpu.pcie_generation_limit, gpu.pcie_width, gpu.pcie_width_limit) == (1, 5, 8, 16)


def test_what_a_gpu_does_not_tell_is_left_open_and_the_rest_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    mute = frozenset({"nvmlDeviceGetClockInfo", "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetCurrPcieLinkWidth"})
    monkeypatch.setattr(module, "pynvml", FakeNvml([FakeGpu(), FakeGpu()], mute=mute))
    first, second = environment().gpus
    assert first == second
    assert (first.clock_hz, first.power_limit_w, first.pcie_width) == (None, None, None)
    assert (first.clock_limit_hz, first.pcie_generation) == (1_980_000_000, 1)


def test_the_lock_file_of_the_checkout_is_named_by_its_digest() -> None:
    lock = Path(__file__).parents[2] / LOCK_FILE
    assert environment().lock_sha256 == hashlib.sha256(lock.read_bytes()).hexdigest()


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    done = subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_the_commit_of_a_checkout_is_found_and_whether_it_was_changed(tmp_path: Path) -> None:
    source = tmp_path / "clients" / "environment.py"
    put(tmp_path, "clients/environment.py", "original")
    git(tmp_path, "init", "--quiet")
    assert module._checkout(source) == (None, None, None), "nothing is committed yet"
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert module._checkout(source) == (tmp_path, head, False)
    source.write_text("changed")
    assert module._checkout(source) == (tmp_path, head, True)


def test_a_copy_installed_inside_another_checkout_has_no_commit(tmp_path: Path) -> None:
    put(tmp_path, ".venv/lib/site-packages/dlclient/environment.py", "")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", "--force", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    assert module._checkout(tmp_path / ".venv/lib/site-packages/dlclient/environment.py") == (None, None, None)


def test_outside_a_checkout_or_without_git_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert module._checkout(tmp_path / "x.py") == (None, None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert module._checkout(Path(module.__file__)) == (None, None, None)


def test_nothing_heavy_is_imported_for_it() -> None:
    code = "import sys, dlclient.environment, dlclient.samples; print({'torch', 'skimage', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
