"""The machine and the software of a run: what a figure means nothing without."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterable
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
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pillow",
    "scikit-image",
    "torch",
    "torchvision",
    "uvicorn",
)
"""Distributions whose versions are noted where they are installed; none is imported for it."""


def environment(root: Path = Path("/")) -> Environment:
    """Look at this machine now; takes milliseconds and never fails. `root`: of the file system, for tests."""
    gpus, driver = _gpus()
    commit, modified = _commit(Path(__file__).resolve())
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


def _container_memory(root: Path) -> int | None:
    for name in ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes"):
        limit = _text(root / name)
        if limit.isdecimal() and int(limit) < 1 << 60:  # cgroup 1 says "no limit" with a number near 2**63
            return int(limit)
    return None


def _container_cpus(root: Path) -> float | None:
    quota, _, period = _text(root / "sys/fs/cgroup/cpu.max").partition(" ")
    if not quota:
        quota = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_quota_us")
        period = _text(root / "sys/fs/cgroup/cpu/cpu.cfs_period_us")
    if quota.isdecimal() and period.isdecimal():  # "max" and -1 mean no limit
        return int(quota) / int(period)
    return None


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
        gpus = tuple(
            Gpu(name=pynvml.nvmlDeviceGetName(handle), memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(handle).total))
            for handle in handles
        )
        return gpus, pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError:
        return (), None
    finally:
        pynvml.nvmlShutdown()


def _commit(source: Path) -> tuple[str | None, bool | None]:
    """Commit of the checkout that `source` runs from, and whether tracked files differ from it."""
    try:
        top, commit = _git(source.parent, "rev-parse", "--show-toplevel", "HEAD").split("\n")
        if not source.is_relative_to(top) or "site-packages" in source.relative_to(top).parts:
            return None, None  # an installed copy that happens to lie inside some other checkout
        return commit, bool(_git(source.parent, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None, None  # no git program, no checkout, or nothing committed yet


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
