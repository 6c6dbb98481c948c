"""The rooms and the arrows between them, as docs say; nothing imports more than it may."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = {
    "dlserve": ROOT / "server/dlserve",
    "dlload": ROOT / "loadgen/dlload",
    "dlclient": ROOT / "clients/dlclient",
    "dlmodels": ROOT / "models/dlmodels",
    "dlreport": ROOT / "dashboards/dlreport",
}
ARROWS = {
    "dlserve": {"dlmodels"},
    "dlload": {"dlclient"},
    "dlclient": {"dlmodels"},  # only its bench, see below
    "dlmodels": set[str](),
    "dlreport": {"dlclient"},
}
FRAMEWORKS = {"torch", "torchvision", "mxnet", "onnx", "onnxruntime", "openvino", "tensorrt"}


def imports(file: Path) -> Iterator[str]:
    """Every module that a file imports, at any depth, as absolute names."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(folder: Path) -> list[Path]:
    """The Python files of a folder; there must be some."""
    found = sorted(folder.rglob("*.py"))
    assert found, folder
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_room_imports_only_the_rooms_it_may(package: str) -> None:
    allowed = ARROWS[package] | {package}
    for file in files(PACKAGES[package]):
        used = {name.split(".")[0] for name in imports(file)} & set(PACKAGES)
        assert used <= allowed, f"{file} imports {used - allowed}"


def test_of_the_clients_only_the_bench_knows_models() -> None:
    for file in files(PACKAGES["dlclient"]):
        if "bench" not in file.parts:
            assert "dlmodels" not in {name.split(".")[0] for name in imports(file)}, file


def test_reports_know_of_the_client_only_the_results() -> None:
    for file in files(PACKAGES["dlreport"]):
        for name in imports(file):
            if name.startswith("dlclient"):
                known = (
                    *(
                        "results",
                        "search_result",
                        "bench_result",
                        "balance_result",
                        "serving_result",
                        "limits",
                        "timeline",
                        "errors",
                    ),
                    *("statistics", "intervals"),  # pure: how figures come of samples, and how wrong they may be
                )
                assert name.split(".")[1] in known, f"{file} imports {name}"


def test_only_files_directly_in_loadgen_import_locust() -> None:
    for package, folder in PACKAGES.items():
        for file in files(folder):
            assert not any(name.split(".")[0] == "locust" for name in imports(file)), f"{package}: {file}"
    assert any("locust" in name for name in imports(ROOT / "loadgen/stream.py"))


def test_front_and_worker_never_import_each_other() -> None:
    for side, other in (("front", "worker"), ("worker", "front")):
        for file in files(PACKAGES["dlserve"] / side):
            assert not any(name.startswith(f"dlserve.{other}") for name in imports(file)), file


PURE = (
    *("front.balancer", "front.expectation", "front.policies", "front.prefetching.worth_prefetching"),
    *("worker.batcher", "worker.cache"),
    *("cli", "config.POLICIES", "errors", "eviction", "forward_times", "messages", "simulation"),
)
"""Of the server, what its simulation is made of: policies, and a cache whose clock is given to it."""


def test_the_simulation_is_made_of_the_servers_pure_parts_and_no_process_knows_it() -> None:
    for file in files(PACKAGES["dlserve"]):
        ours = {name.removeprefix("dlserve.") for name in imports(file) if name.startswith("dlserve.")}
        if file.parent.name == "simulation":
            strangers = {name for name in ours if not any(f"{name}.".startswith(f"{pure}.") for pure in PURE)}
            assert not strangers, f"{file} imports {strangers}"
        else:
            assert not any(name.startswith("simulation") for name in ours), file


def test_the_front_end_itself_decodes_no_image_and_computes_on_no_array() -> None:
    for file in files(PACKAGES["dlserve"] / "front"):
        used = {name.split(".")[0] for name in imports(file)} & {"numpy", "cv2", "PIL", "scipy", "skimage"}
        assert not used, f"{file} imports {used}"
        taken = {name for name in imports(file) if name.startswith("dlmodels.images.")}
        assert taken <= {
            f"dlmodels.images.{name}" for name in ("InputSpec", "Interpolation", "MAX_SIDE", "validate")
        }, file


def test_only_engines_zoo_and_conversion_import_a_framework() -> None:
    for folder in PACKAGES.values():
        for file in files(folder):
            inside = file.relative_to(folder).parts[0]
            if folder.name == "dlmodels" and inside in ("engines", "zoo", "conversion"):
                continue
            used = {name.split(".")[0] for name in imports(file)} & FRAMEWORKS
            assert not used, f"{file} imports {used}"


@pytest.mark.parametrize(
    "module",
    [
        "dlserve.supervisor",
        "dlserve.front.__main__",
        "dlserve.cli",
        "dlmodels.cli",
        "dlclient.client",
        "dlclient.bench.cli",
    ],
)
def test_the_front_end_the_supervisor_and_the_commands_start_without_a_framework(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({FRAMEWORKS!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not done.stdout.strip()


def test_importing_a_package_starts_nothing() -> None:
    code = "import threading, dlserve, dlmodels, dlload, dlclient, dlreport; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "1"
