"""dlclient.bench.energy: RAPL's counters as files. No machine here shows any: they are made up."""

from pathlib import Path

import pytest
from dlclient.bench.energy import Rapl


def zone(folder: Path, name: str, called: str, microjoules: int, reach: int = 1_000_000) -> Path:
    where = folder / name
    where.mkdir()
    (where / "name").write_text(called + "\n")
    (where / "energy_uj").write_text(f"{microjoules}\n")
    (where / "max_energy_range_uj").write_text(f"{reach}\n")
    return where / "energy_uj"


def test_packages_and_memory_count_and_their_parts_do_not_count_twice(tmp_path: Path) -> None:
    first = zone(tmp_path, "intel-rapl:0", "package-0", 100)
    core = zone(tmp_path, "intel-rapl:0:0", "core", 0)
    dram = zone(tmp_path, "intel-rapl:0:1", "dram", 5)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 7)
    zone(tmp_path, "intel-rapl:2", "psys", 0)
    zone(tmp_path, "intel-rapl-mmio:0", "package-0", 0)
    rapl = Rapl(tmp_path)
    rapl.start()
    assert rapl.source == "RAPL package-0 + dram + package-1"
    assert rapl.joules() == 0.0
    first.write_text("2000100")
    core.write_text("900000")
    dram.write_text("500005")
    second.write_text("1000007")
    assert rapl.joules() == 3.5


def test_a_counter_that_starts_again_is_followed(tmp_path: Path) -> None:
    counter = zone(tmp_path, "intel-rapl:0", "package-0", 900_000)
    rapl = Rapl(tmp_path)
    rapl.start()
    counter.write_text("100000")
    assert rapl.joules() == pytest.approx(0.2)
    counter.write_text("50000")
    assert rapl.joules() == pytest.approx(1.15)


def test_a_machine_without_counters_tells_nothing_and_complains_of_nothing(tmp_path: Path) -> None:
    rapl = Rapl(tmp_path / "absent")
    rapl.start()
    assert (rapl.joules(), rapl.source, rapl.unreadable) == (None, "", "")


def test_counters_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    zone(tmp_path, "intel-rapl:0", "package-0", 1).unlink()  # as for anyone but root: tests may run as root
    rapl = Rapl(tmp_path)
    rapl.start()
    assert (rapl.joules(), rapl.source) == (None, "")
    assert "energy_uj cannot be read" in rapl.unreadable
