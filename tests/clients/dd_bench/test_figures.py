"""Figures out of samples, compared with values computed by hand; kinds of failures; the text of numbers."""

from statistics import stdev

import pytest
from dlclient.bench_result import Load, Point, Sample, Setting, Warming
from dlclient.client_cost import NullServer
from dlclient.dd_bench.answers import read, refusal
from dlclient.dd_bench.figures import DEEPDETECT_FIGURE, Seen, point_of
from dlclient.dd_bench.rows import COLUMNS
from dlclient.dd_bench.text import number, row, table
from dlclient.errors import PointError
from dlclient.exchange import Exchange

WARMING = Warming(iterations=1, seconds=0.1, steady=None)
TIMES = (0.0101, 0.0119, 0.0111, 0.0129, 0.014)


def measured(times: tuple[float, ...] = TIMES, batch_size: int = 4, seen: Seen | None = None) -> Point:
    samples = [Sample(began_s=0.02 * place, latency_s=one + 0.001, server_s=one) for place, one in enumerate(times)]
    return point_of(
        Setting(model="net", batch_size=batch_size, input="base64"),
        samples,
        seen=seen or Seen(),
        transform_s=0.002,
        load=Load(prepare_s=0.5, load_s=0.1, first_run_s=0.05),
        warming=WARMING,
        client_cost_s=0.0001,
    )


def test_figures_are_those_computed_by_hand() -> None:
    found = measured()
    assert found.compatible == {DEEPDETECT_FIGURE: pytest.approx(0.003)}, "0.012 on average, 4 images"
    assert found.latency_s is not None
    assert found.latency_s.mean == pytest.approx(0.012)
    assert found.client_s is not None
    assert found.client_s.mean == pytest.approx(0.013)
    assert found.deviation_s == pytest.approx(stdev(TIMES))
    assert found.wall_s == pytest.approx(0.08 + 0.015)
    assert found.images_per_s == pytest.approx(20 / 0.095)
    cells = {name: cell(found) for name, cell in COLUMNS.items()}
    assert cells["mean processing time"] == pytest.approx(12)
    assert cells["mean time per img"] == pytest.approx(3)
    assert cells["mean transform time per img"] == pytest.approx(0.5)
    assert cells["fps"] == pytest.approx(1000 / 3)
    assert cells["first call time"] == pytest.approx(150)
    assert cells["creation time"] == pytest.approx(500)
    assert (cells["median processing time"], cells["fail"]) == (None, False), "5 samples tell no median"


def test_a_slow_outlier_stays_in_the_figures_and_is_named() -> None:
    times = (*(0.010 + place / 1e5 for place in range(19)), 0.5)
    found = measured(times)
    assert (found.outliers, found.outlier_largest_s) == (1, 0.5)
    assert found.latency_s is not None
    assert found.latency_s.mean == pytest.approx(sum(times) / 20)
    assert found.latency_s.largest == 0.5


def test_cold_calls_make_figures_doubtful_and_parts_are_told() -> None:
    found = measured(seen=Seen(colder=2, largest_part=2))
    assert [one.code for one in found.reasons] == ["cold-calls"]
    assert [one.code for one in found.warnings] == ["in-parts"]
    assert "2 of 5 timed calls" in "\n".join(row(found, with_model=False))
    assert "3.000!" in table([found])


def test_whole_milliseconds_are_told_where_they_matter() -> None:
    assert [one.code for one in measured((0.029, 0.002, 0.003)).warnings] == ["whole-milliseconds"]
    assert not measured((0.2, 0.3)).warnings
    assert not measured((0.0021, 0.003)).warnings


def test_one_line_holds_deepdetects_fields_in_its_order() -> None:
    (line,) = row(measured(), with_model=False)
    assert line.startswith(
        ">>> batch size = 4 / mean processing time = 12.00 / mean time per image = 3.000 / mean transform time = 2.000 / "
        "mean transform time per image = 0.5000 / fps = 333.3 / fail = False / median = n/a (n=5) / "
    )


def test_numbers_have_four_digits_however_large() -> None:
    values = (0.01234, 1.23456, 12.3456, 999.96, 12345.6)
    assert [number(one) for one in values] == ["0.0123", "1.235", "12.35", "1000", "12346"]


@pytest.mark.parametrize(
    ("status", "said", "dd_code", "kind"),
    [
        (500, "Libtorch error: CUDA out of memory. Tried to allocate 20 MiB", 500, "out-of-memory"),
        (500, "std::bad_alloc", 1007, "out-of-memory"),
        (500, "Libtorch error: shapes do not match", 500, "error"),
        (400, "Service Bad Request Error: no GPU", 1006, "unsupported"),
        (413, "body too large", None, "unsupported"),
        (404, "Service Not Found", 1002, "error"),
        (503, "two workers died on this request", None, "crash"),
        (429, "all queues are full", None, "error"),
    ],
)
def test_error_answers_are_kinds_of_failures(status: int, said: str, dd_code: int | None, kind: str) -> None:
    error = refusal(status, said, dd_code)
    assert error.kind == kind
    assert said in str(error)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>", "no answer of a DeepDetect-style server"),
        (b'{"head": {"time": 1.0}}', "holds no predictions"),
        (b'{"head": {"time": 1.0}, "body": {"predictions": [{}]}}', "1 predictions for 2 images"),
        (b'{"head": {}, "body": {"predictions": [{}, {}]}}', "does not tell the server's time"),
    ],
)
def test_a_good_status_alone_makes_no_good_answer(body: bytes, said: str) -> None:
    with pytest.raises(PointError, match=said):
        read(Exchange(0.0, 0.1, 0.1, 200, body, ""), 60, images=2, distinct=2)


def test_the_clients_cost_grows_with_what_is_sent_and_received() -> None:
    with NullServer() as server:
        small, sent, received = server.cost_s(100, 100), server.cost_s(10_000_000, 100), server.cost_s(100, 10_000_000)
    assert 0 < small < min(sent, received)
