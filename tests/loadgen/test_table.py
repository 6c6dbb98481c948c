"""dlload.table: what is printed at the end, from a result made by hand."""

import pytest
from dlclient.results import Environment, Latency, Phase, PlanFacts, Reason, Run, Seeds, Summary, Target
from dlload.table import WIDTH, milliseconds, result_table

HOST = Environment(
    host="h",
    system="s",
    kernel="k",
    cpu_model="c",
    cpu_cores=2,
    cpu_cores_physical=2,
    cpu_governor="performance",
    memory_bytes=1,
    container_memory_bytes=None,
    container_cpus=None,
    gpus=(),
    gpu_driver=None,
    python="p",
    versions={},
    commit=None,
    modified=None,
)
STAGES = {"demote": 0.5, "wire": 0.0001, "forward": 0.0123, "load": 0.02}


def summary(mean_s: float | None, count: int, stages: dict[str, float] | None = None) -> Summary:
    """Latencies of `mean_s` throughout; percentiles by the sample rule."""
    return Summary(
        requests=count + 1,
        errors=1,
        images=count,
        wall_s=12.5,
        images_per_s=count / 12.5 if count else None,
        wall_s_per_image=12.5 / count if count else None,
        latency_s=Latency(
            mean=mean_s if count else None,
            p50=mean_s if count >= 12 else None,
            p90=mean_s if count >= 64 else None,
            p99=mean_s if count >= 662 else None,
        ),
        latency_n=count,
        stages_s=stages,
        weights_bytes=553_430_000,
        load_bytes_per_s=2.5e9 if stages else None,
    )


def phase(name: str, services: dict[str, Summary], total: Summary) -> Phase:
    return Phase(name=name, verdict="valid", reasons=(), warnings=(), temperatures={}, total=total, services=services)


def run(*phases: Phase, reasons: tuple[Reason, ...] = (), warnings: tuple[Reason, ...] = ()) -> Run:
    return Run(
        schema="dlserve-stream/1",
        kind="stream",
        started="",
        finished="",
        interrupted=False,
        verdict="invalid" if reasons else "valid",
        reasons=reasons,
        warnings=warnings,
        simulated=False,
        timed_scope="client",
        plan=PlanFacts(
            seeds=Seeds.all(1),
            requests=2000,
            services=tuple(phases[0].services),
            mix="uniform",
            images="sample",
            image_count=48,
            image_bytes=1,
            image_sha256="",
            batch_size=1,
            users=8,
            phases=tuple(one.name for one in phases),
            sha256="",
        ),
        target=Target(url="http://127.0.0.1:8080", protocol="raw", info={}),
        environment=HOST,
        phases=phases,
    )


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (None, "-"),
        (0.0, "0.000"),
        (0.0001234, "0.123"),
        (0.0012345, "1.234"),
        (0.0099996, "10.00"),
        (0.0123456, "12.35"),
        (0.09999, "99.99"),
        (0.099999, "100.0"),
        (0.1234567, "123.5"),
        (0.99996, "1,000"),
        (12.3456, "12,346"),
    ],
)
def test_milliseconds_have_four_digits(seconds: float | None, printed: str) -> None:
    assert milliseconds(seconds) == printed


def rows(text: str) -> dict[tuple[str, str], list[str]]:
    """(model, phase) -> the other cells, of the first table."""
    found: dict[tuple[str, str], list[str]] = {}
    for line in text.split("\n\n")[1].splitlines():
        cells = line.replace("n/a (", "n/a(").split()
        if len(cells) > 2 and cells[1] in {"warm", "disk"}:
            found.setdefault((cells[0], cells[1]), cells[2:])
    return found


def test_warm_stands_beside_cold_with_their_ratio() -> None:
    warm = phase("warm", {"vgg16": summary(0.100, 700)}, summary(0.100, 700))
    disk = phase("disk", {"vgg16": summary(0.250, 70, STAGES)}, summary(0.300, 70, STAGES))
    table = rows(result_table(run(warm, disk)))
    assert list(table) == [("vgg16", "warm"), ("vgg16", "disk"), ("total", "warm"), ("total", "disk")]
    assert table["vgg16", "warm"] == ["701", "1", *["100.0"] * 4, "56.0", "17.86", "553.4"]
    assert table["vgg16", "disk"] == ["71", "1", *["250.0"] * 3, "n/a(n=70)", "5.6", "178.6", "2.50", "553.4", "2.50"]
    assert table["total", "disk"][8] == "3.00"


def test_a_cold_phase_alone_has_no_ratio() -> None:
    disk = phase("disk", {"vgg16": summary(0.250, 700, STAGES)}, summary(0.250, 700, STAGES))
    assert rows(result_table(run(disk)))["vgg16", "disk"][6:] == ["56.0", "17.86", "553.4", "2.50"]


def test_a_model_without_a_good_answer_is_a_row_all_the_same() -> None:
    warm = phase("warm", {"vgg16": summary(None, 0)}, summary(None, 0))
    assert rows(result_table(run(warm)))["vgg16", "warm"] == ["1", "1", "-", *["n/a(n=0)"] * 3, "-", "-", "553.4"]


def test_the_stages_are_in_the_order_of_a_request() -> None:
    warm = phase("warm", {"vgg16": summary(0.1, 700, STAGES)}, summary(0.1, 700, STAGES))
    lines = result_table(run(warm)).splitlines()
    (header,) = [line for line in lines if line.startswith("server's stages")]
    assert header.split()[-4:] == ["wire", "load", "forward", "demote"]
    assert lines[lines.index(header) + 2].split() == ["vgg16", "warm", "0.100", "20.00", "12.30", "500.0"]


def test_a_server_that_tells_no_stages_is_said_to() -> None:
    warm = phase("warm", {"a": summary(0.1, 700)}, summary(0.1, 700))
    assert "The server does not tell its stages." in result_table(run(warm))


def test_what_makes_it_invalid_comes_first_and_warnings_last() -> None:
    reason = Reason("errors", "3 requests failed", "see the log")
    warning = Reason("cpu-governor", "the governor is powersave", "set it to performance")
    warm = phase("warm", {"a": summary(0.1, 700)}, summary(0.1, 700))
    text = result_table(run(warm, reasons=(reason,), warnings=(warning,)))
    assert text.startswith("INVALID: 2,000 requests a phase, 8 users, batch 1, seed 1, raw to http://127.0.0.1:8080\n")
    assert text.splitlines()[1] == "reason: 3 requests failed. See the log."
    assert text.endswith("warning: the governor is powersave. Set it to performance.\n")


@pytest.mark.parametrize(
    ("mean_s", "counts"),
    [(0.0005, (10, 60, 700)), (1.2345, (5, 63, 661)), (12.5, (11, 100, 99_999)), (59.9, (1, 63, 661))],
)
def test_it_fits_an_ordinary_terminal(mean_s: float, counts: tuple[int, ...]) -> None:
    names = ("squeezenet1_1", "a", "resnext101_64x4d_pretrained_on_everything")
    services = {name: summary(mean_s, count, STAGES) for name, count in zip(names, counts, strict=True)}
    phases = [phase(name, services, summary(mean_s, sum(counts), STAGES)) for name in ("warm", "host", "disk")]
    long = Reason("errors", "the server said: " + "x" * 300 + " and more " * 20, "look " * 30)
    lines = result_table(run(*phases, reasons=(long,))).splitlines()
    assert max(len(line) for line in lines if "xxx" not in line) <= WIDTH
    assert any(line.startswith("resnext") for line in lines)
