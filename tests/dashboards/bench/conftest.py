"""The reports of two benches, made once for all tests: drawing is what takes time."""

from pathlib import Path

import pytest
from dlreport.bench import write_bench_report

from tests.dashboards.bench import builder
from tests.dashboards.bench.builder import BenchResult


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something of everything, reported on."""
    folder = BenchResult(builder.small(), changes={"reproduces": "dd_performances"}).write(
        tmp_path_factory.mktemp("small")
    )
    write_bench_report(folder)
    return folder


@pytest.fixture(scope="session")
def tuning(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of DLI's suite, not finished, reported on."""
    folder = BenchResult(builder.tuning(), finished=False, changes={"reproduces": "dli"}).write(
        tmp_path_factory.mktemp("tuning")
    )
    write_bench_report(folder)
    return folder
