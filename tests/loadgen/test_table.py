"""dlload.table: what is printed at the end, from a result made by hand."""

from typing import Literal

import msgspec
import pytest
from dlclient.results import (
    SCHEMA,
    Clock,
    Environment,
    Latency,
    Objective,
    Phase,
    PlanFacts,
    Reason,
    Run,
    Seeds,
    SendLag,
    Summary,
    Target,
)
from dlclient.search_result import Point, SearchResult
from dlload.table import WIDTH, milliseconds, result_table, search_table

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
        schema=SCHEMA,
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


def open_run(*phases: Phase, reasons: tuple[Reason, ...] = ()) -> Run:
    """The same with a schedule."""
    closed = run(*phases, reasons=reasons)
    return msgspec.structs.replace(closed, plan=msgspec.structs.replace(closed.plan, load="60/s poisson", users=100))


def measured(mean_s: float, lag_s: float) -> Summary:
    """A thousand good answers, `lag_s` of each spent in the load tester, with intervals of a tenth to both sides."""

    def times(seconds: float) -> Latency:
        intervals = dict.fromkeys(("mean", "p50", "p90", "p99"), (seconds * 0.9, seconds * 1.1))
        return Latency(seconds, seconds, seconds, seconds, None, 2 * seconds, intervals)

    return msgspec.structs.replace(
        summary(mean_s, 1000),
        latency_s=times(mean_s),
        service_s=times(mean_s - lag_s),
        first_byte_s=msgspec.structs.replace(times(mean_s - lag_s), intervals=None),
        send_lag_s=SendLag(mean=lag_s, p99=lag_s, p50=lag_s, largest=lag_s),
    )


def warm_phase(total: Summary, **more: object) -> Phase:
    return msgspec.structs.replace(phase("warm", {"a": total}, total), **more)


def totals(text: str) -> dict[str, str]:
    """name -> the rest of its line, of the table of totals."""
    (block,) = [block for block in text.split("\n\n") if block.startswith("total, ms")]
    lines = [line for line in block.splitlines() if "  warm  " in line]
    return {line.partition("  warm")[0].strip(): " ".join(line.partition("  warm")[2].split()) for line in lines}


def test_an_open_loop_shows_what_the_user_waited_beside_what_the_server_took() -> None:
    found = totals(result_table(open_run(warm_phase(measured(0.010, 0.004)))))
    assert list(found) == ["response", "service", "first byte", "send lag"]
    assert found["response"] == "10.00 [9.000, 11.00] 10.00 [9.000, 11.00] 10.00 10.00 [9.000, 11.00] n/a 20.00"
    assert found["service"].startswith("6.000 [5.400, 6.600] 6.000 [5.400, 6.600] 6.000 6.000 [5.400, 6.600]")
    assert found["first byte"] == "6.000 6.000 6.000 6.000 n/a 12.00"
    assert found["send lag"] == "4.000 4.000 4.000 4.000"


def test_a_closed_loop_has_one_latency() -> None:
    found = totals(result_table(run(warm_phase(measured(0.010, 0.004)))))
    assert list(found) == ["latency", "first byte", "send lag"]


def test_without_an_answer_there_are_no_totals() -> None:
    assert "total, ms" not in result_table(run(warm_phase(summary(None, 0))))


def test_an_open_loop_says_its_load_and_what_of_it_was_sent() -> None:
    total = msgspec.structs.replace(measured(0.010, 0.004), dropped=3, new_connections=7)
    text = result_table(open_run(warm_phase(total, offered_per_s=60.0, delivered_per_s=57.0)))
    assert text.startswith(
        "VALID: 2,000 requests a phase, open loop, 60/s poisson, at most 100 in flight, batch 1, seed 1"
    )
    line = next(line for line in text.splitlines() if line.startswith("warm: "))
    assert line.startswith(
        "warm: offered 60 requests/s, sent 57/s (95.0%); 3 dropped, never sent; 7 of 1,001 requests had"
    )


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (Clock(warm_up_requests=1200, warm_up_s=3.25), "warm: 1,200 requests before the clock (3.2 s)."),
        (Clock(warm_up_requests=9, warm_up_s=1, steady=True), "warm: 9 requests before the clock (1.0 s, until 3 windows agreed)."),
        (Clock(warm_up_requests=9, warm_up_s=1, steady=False), "(1.0 s, in which no 3 windows agreed)."),
        (Clock(to_s=14.06, left_out=65), "warm: 65 that were due after 14.1 s are not counted."),
        (Clock(from_s=2.0, to_s=14.06, left_out=65), "65 that were due before 2.0 s or after 14.1 s are not counted."),
    ],
)  # fmt: skip
def test_what_the_clock_left_out_is_said(clock: Clock, said: str) -> None:
    assert said in result_table(run(warm_phase(measured(0.010, 0.004), clock=clock)))


def test_nothing_is_said_of_a_course_without_anything_to_say() -> None:
    own = msgspec.structs.replace(measured(0.010, 0.004), new_connections=8)  # one for each user
    assert not [line for line in result_table(run(warm_phase(own))).splitlines() if line.startswith("warm: ")]
    again = msgspec.structs.replace(own, new_connections=9)
    assert "warm: 9 requests had to connect first." in result_table(run(warm_phase(again)))


def objective(outcome: Literal["met", "missed", "cannot-tell"], *, sure: bool) -> Objective:
    return Objective(text="p99<50ms", outcome=outcome, sure=sure, sentence="p99<50ms: measured 20 ms")


@pytest.mark.parametrize(
    ("outcome", "sure", "printed"),
    [
        ("met", True, "objective met, warm: p99<50ms: measured 20 ms."),
        ("missed", True, "objective MISSED, warm: p99<50ms: measured 20 ms."),
        ("missed", False, "objective MISSED (not with 99 % confidence), warm: p99<50ms: measured 20 ms."),
        ("cannot-tell", False, "objective CANNOT TELL, warm: p99<50ms: measured 20 ms."),
    ],
)
def test_objectives_stand_right_below_the_verdict(
    outcome: Literal["met", "missed", "cannot-tell"], sure: bool, printed: str
) -> None:
    text = result_table(run(warm_phase(measured(0.010, 0.004), objectives=(objective(outcome, sure=sure),))))
    assert text.splitlines()[1] == printed


def test_objectives_of_an_invalid_run_are_not_taken_for_results() -> None:
    reason = Reason("errors", "3 requests failed", "see the log")
    own = warm_phase(measured(0.010, 0.004), objectives=(objective("met", sure=True),))
    lines = result_table(run(own, reasons=(reason,))).splitlines()
    assert lines[1] == "reason: 3 requests failed. See the log."
    assert lines[2] == "The objectives, by figures that are not to be trusted:"
    assert lines[3].startswith("objective met, warm")


@pytest.mark.parametrize("mean_s", [0.0005, 0.01, 1.2345, 12.5, 59.9])
def test_intervals_fit_an_ordinary_terminal_too(mean_s: float) -> None:
    phases = [warm_phase(measured(mean_s, mean_s / 2), name=name) for name in ("warm", "host", "disk")]
    assert max(map(len, result_table(open_run(*phases)).splitlines())) <= WIDTH


def test_a_search_shows_its_answer_how_that_stood_and_the_curve() -> None:
    found = SearchResult(
        schema="dlserve-search/1",
        slo=("p99<50ms",),
        found="found",
        rate_per_s=97.5,
        upper_per_s=102.0,
        sentence="97.5 requests/s is the highest rate",
        knee_per_s=80.0,
        probes=5,
        requests=12_345,
        confirmed_in="probe-05",
        objectives=(objective("met", sure=True),),
        curve=(
            Point(rate_per_s=80, requests=500, delivered_per_s=80.1, mean_s=0.010, p50_s=0.009, meets=True),
            Point(rate_per_s=102, requests=4000, delivered_per_s=99.0, mean_s=None, p50_s=None, meets=False),
        ),
        runs=("probe-01",),
    )
    lines = search_table(found).splitlines()
    assert lines[0].startswith("FOUND: 97.5 requests/s for p99<50ms.")
    assert lines[2] == "confirmation, met: p99<50ms: measured 20 ms."
    assert lines[5].split() == ["80", "500", "80.1", "10.00", "9.000", "yes"]
    assert lines[6].split() == ["102", "4,000", "99", "-", "-", "no"]
    assert lines[-1] == "The latency turns steep at about 80/s. 5 runs, 12,345 requests."
