"""The machine and the software of a run: what a figure means nothing without."""

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil
import pynvml

from dlclient.results import Environment, Gpu

LIBRARIES = (
    "dlserve",
    "gevent",
    "geventhttpclient",
    "httptools",
    "httpx",
    "locust",
    "mlcommons-loadgen",
    "msgspec",
    "mxnet",
    "numpy",
    "nvidia-ml-py",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "psutil",
    "scikit-image",
    "tensorrt",
    "torch",
    "torchvision",
    "uvicorn",
)
"""Distributions whose versions are noted where they are installed; none is imported for it."""

_NO_LIMIT = 1 << 60
"""Cgroup 1 says "no limit" with a number near 2**63."""

LOCK_FILE = "requirements.lock"
"""Beside pyproject.toml: what was installed, to the hash."""


def environment(root: Path = Path("/")) -> Environment:
    """Look at this machine now; takes milliseconds and never fails. `root`: of the file system, for tests."""
    gpus, driver = _gpus()
    top, commit, modified = _checkout(Path(__file__).resolve())
    return Environment(
        host=platform.node(),
        system=_system(root),
        kernel=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu_model=_cpu_model(root),
        cpu_cores=len(os.sched_getaffinity(0)),
        cpu_cores_physical=psutil.cpu_count(logical=False),
        cpu_governor=_governor(root),
        memory_bytes=psutil.virtual_memory().total,
        container_memory_bytes=_container_memory(root),
        container_cpus=_container_cpus(root),
        gpus=gpus,
        gpu_driver=driver,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        versions=_versions(LIBRARIES),
        commit=commit,
        modified=modified,
        lock_sha256=_sha256(top / LOCK_FILE) if top else None,
        cpu_limit_hz=_cpu_limit(root),
        cpu_turbo=_cpu_turbo(root),
        swap_bytes=psutil.swap_memory().total,
        container_swap_bytes=_container_swap(root),
        container_cpuset=_container_cpuset(root),
        container_processes=_smallest(_limits(root, "pids", "pids.max", "pids.max")),
    )


def _text(path: Path) -> str:
    """A small file's content; "" where there is none to read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _system(root: Path) -> str:
    for line in _text(root / "etc/os-release").splitlines():
        key, _, value = line.partition("=")
        if key == "PRETTY_NAME":
            return value.strip('"')
    return sys.platform


def _cpu_model(root: Path) -> str:
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _governor(root: Path) -> str:
    files = sorted((root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_governor"))
    found = sorted({governor for governor in map(_text, files) if governor})
    return ", ".join(found) or "not visible"


def _cpu_limit(root: Path) -> int | None:
    files = (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/cpuinfo_max_freq")
    return max((int(kilohertz) * 1000 for kilohertz in map(_text, files) if kilohertz.isdecimal()), default=None)


def _cpu_turbo(root: Path) -> bool | None:
    folder = root / "sys/devices/system/cpu"
    if off := _text(folder / "intel_pstate/no_turbo"):
        return off == "0"
    if on := _text(folder / "cpufreq/boost"):
        return on == "1"
    return None


def _container_memory(root: Path) -> int | None:
    return _smallest(_limits(root, "memory", "memory.max", "memory.limit_in_bytes"))


def _container_swap(root: Path) -> int | None:
    return _smallest(_limits(root, "memory", "memory.swap.max", ""))


def _container_cpus(root: Path) -> float | None:
    second = (_text(folder / "cpu.max") for folder in _groups(root, ""))
    first = (
        f"{_text(folder / 'cpu.cfs_quota_us')} {_text(folder / 'cpu.cfs_period_us')}" for folder in _groups(root, "cpu")
    )
    return min((quota for text in (*second, *first) if (quota := _quota(text)) is not None), default=None)


def _container_cpuset(root: Path) -> str:
    """Of the innermost group that says."""
    names = ("cpuset.cpus.effective", "cpuset.effective_cpus", "cpuset.cpus")
    folders = (*_groups(root, "cpuset"), *_groups(root, ""))
    return next((text for folder in folders for name in names if (text := _text(folder / name))), "")


def _quota(text: str) -> float | None:
    """CPUs, from a quota and its period; None: no limit (the quota is "max" or -1)."""
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _smallest(limits: Iterable[str]) -> int | None:
    numbers = (int(limit) for limit in limits if limit.isdecimal())  # "max" means no limit
    return min((number for number in numbers if number < _NO_LIMIT), default=None)


def _limits(root: Path, controller: str, second: str, first: str) -> list[str]:
    """What this process's control groups and all around them say, by the file's name in cgroup 2 and 1; "" none there."""
    found = [_text(folder / second) for folder in _groups(root, "")]
    return found + [_text(folder / first) for folder in _groups(root, controller) if first]


def _groups(root: Path, controller: str) -> list[Path]:
    """Folders of the control groups that this process is in, innermost first; `controller` "": those of cgroup 2.

    Within a container the groups outside of it are not to be seen, and its own is the top one.
    """
    top = root / "sys/fs/cgroup" / controller
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            own = top / path.strip("/")
            if ".." not in own.parts:  # else it is outside of what the container sees
                return [folder for folder in (own, *own.parents) if folder.is_relative_to(top)]
    return [top]


def _versions(names: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in names:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _gpus() -> tuple[tuple[Gpu, ...], str | None]:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return (), None
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())]
        return tuple(map(_gpu, handles)), pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return (), None
    finally:
        pynvml.nvmlShutdown()


def _gpu(handle: object) -> Gpu:
    """Raises NVMLError where not even name and memory are told."""
    sm, memory = pynvml.NVML_CLOCK_SM, pynvml.NVML_CLOCK_MEM
    power_mw = _told(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    return Gpu(
        name=pynvml.nvmlDeviceGetName(handle),
        memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total),
        clock_hz=_hertz(_told(pynvml.nvmlDeviceGetClockInfo, handle, sm)),
        clock_limit_hz=_hertz(_told(pynvml.nvmlDeviceGetMaxClockInfo, handle, sm)),
        memory_clock_hz=_hertz(_told(pynvml.nvmlDeviceGetClockInfo, handle, memory)),
        memory_clock_limit_hz=_hertz(_told(pynvml.nvmlDeviceGetMaxClockInfo, handle, memory)),
        power_limit_w=None if power_mw is None else power_mw / 1000,
        pcie_generation=_told(pynvml.nvmlDeviceGetCurrPcieLinkGeneration, handle),
        pcie_generation_limit=_told(pynvml.nvmlDeviceGetMaxPcieLinkGeneration, handle),
        pcie_width=_told(pynvml.nvmlDeviceGetCurrPcieLinkWidth, handle),
        pcie_width_limit=_told(pynvml.nvmlDeviceGetMaxPcieLinkWidth, handle),
    )


def _told(ask: Callable[..., int], *about: object) -> int | None:
    """NVML's answer; None where this device or driver has none."""
    try:
        return ask(*about)
    except pynvml.NVMLError:
        return None


def _hertz(megahertz: int | None) -> int | None:
    return None if megahertz is None else megahertz * 1_000_000


def _checkout(source: Path) -> tuple[Path | None, str | None, bool | None]:
    """The checkout that `source` runs from, its commit, and whether tracked files differ from that."""
    try:
        top, commit = _git(source.parent, "rev-parse", "--show-toplevel", "HEAD").split("\n")
        if not source.is_relative_to(top) or "site-packages" in source.relative_to(top).parts:
            return None, None, None  # an installed copy that happens to lie inside some other checkout
        return Path(top), commit, bool(_git(source.parent, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None, None, None  # no git program, no checkout, or nothing committed yet


def _sha256(path: Path) -> str | None:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return None


def _git(folder: Path, *arguments: str) -> str:
    # S603/S607: a fixed program of the user's own PATH with fixed arguments
    done = subprocess.run(  # noqa: S603
        ["git", "-C", str(folder), *arguments],  # noqa: S607
        capture_output=True,
        check=True,
        text=True,
        timeout=10,
    )
    return done.stdout.strip()
