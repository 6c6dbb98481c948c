"""dlreport.bench.busy: what the counters told, and nothing that none did."""

import msgspec
from dlreport.bench.busy import busy_table

from tests.dashboards.bench import builder
from tests.dashboards.bench.test_bench_tables import rows, view


def test_utilization_shows_only_what_a_counter_told() -> None:
    on_cpu = busy_table(view(*builder.busy(("vgg16",), (1, 5), "cpu")))
    on_gpu = busy_table(view(*builder.busy(("vgg16",), (1, 5))))
    assert on_cpu is not None
    assert on_gpu is not None
    assert "gpu" not in {column.key for column in on_cpu.columns}
    assert {"gpu", "gpu_memory_bytes"} <= {column.key for column in on_gpu.columns}
    assert rows(on_gpu)[0]["top_operators"].text == "convolution 61.0 %, batch_norm 17.0 %"


def test_energy_is_told_per_image_for_each_counter_that_measured_it() -> None:
    first, second = builder.busy(("vgg16",), (1, 5), "cpu")
    assert first.utilization is not None
    energies = {"NVML energy counter": 400.0, "RAPL package-0": 50.0}
    used = msgspec.structs.replace(
        first.utilization, energy_j=400.0, energy_source="NVML energy counter", energies_j=energies
    )
    table = busy_table(view(msgspec.structs.replace(first, utilization=used), second))
    assert table is not None
    columns = {column.heading: column for column in table.columns if column.heading.startswith("energy, ")}
    assert list(columns) == ["energy, NVML energy counter", "energy, RAPL package-0", "energy, RAPL"]
    assert {column.unit for column in columns.values()} == {"J per image"}
    both, older = rows(table)
    nvml, package, alone = (column.key for column in columns.values())
    assert (both[nvml].value, both[package].value, both[alone].text) == (
        400 / first.images,
        50 / first.images,
        "no counter",
    )
    assert (older[nvml].text, older[package].text, older[alone].value) == (
        "no counter",
        "no counter",
        310 / second.images,
    )
