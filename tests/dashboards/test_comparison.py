"""What the report says in words, and how it divides a latency. Pure functions, tested with tables."""

from collections.abc import Sequence

import pytest
from dlclient.results import Latency, Record, Summary
from dlreport.stream.breakdown import Part, break_down
from dlreport.stream.comparison import amount, answer, rates, times
from dlreport.stream.view import StreamView, view_of

from tests.dashboards.conftest import StreamResult, failed, record


def view(batch_size: int = 1, **phases: Sequence[Record]) -> StreamView:
    result = StreamResult({name: list(records) for name, records in phases.items()}, ("a",), {}, batch_size=batch_size)
    return view_of(result.run(), [one for records in phases.values() for one in records])


def good(phase: str, latency_s: float) -> list[Record]:
    return [record(phase, 0, 0.0, latency_s, "a")]


def bad(phase: str) -> list[Record]:
    return [failed(phase, 0, 0.0, "a")]


@pytest.mark.parametrize(
    ("shown", "sentence"),
    [
        (
            view(warm=good("warm", 0.0123), disk=good("disk", 0.0456)),
            "Warm 12.3 ms, cold from disk 45.6 ms at the mean: 3.7 x.",
        ),
        (
            view(disk=good("disk", 0.0456), warm=good("warm", 0.0123)),
            "Warm 12.3 ms, cold from disk 45.6 ms at the mean: 3.7 x.",
        ),
        (
            view(warm=good("warm", 0.01), host=good("host", 0.015), disk=good("disk", 0.2)),
            "Warm 10.0 ms, cold from host memory 15.0 ms, cold from disk 200 ms at the mean: 1.50 x, 20 x.",
        ),
        (view(warm=good("warm", 0.0123)), "Warm 12.3 ms at the mean; there is no other phase to compare it with."),
        (
            view(host=good("host", 0.015), disk=good("disk", 0.2)),
            "Cold from host memory 15.0 ms, cold from disk 200 ms at the mean; there is no warm phase to compare with.",
        ),
        (
            view(warm=bad("warm"), disk=good("disk", 0.0456)),
            "Warm without a good answer, cold from disk 45.6 ms at the mean: no ratio.",
        ),
        (view(warm=bad("warm"), disk=bad("disk")), "No request got a good answer, so there is no figure."),
        (view(), "The run ended before its first phase: there is nothing to compare."),
        (
            view(4, warm=good("warm", 0.01), disk=good("disk", 0.02)),
            "Warm 10.0 ms, cold from disk 20.0 ms at the mean of a request of 4 images: 2.0 x.",
        ),
    ],
    ids=["two", "cold-first", "three", "one", "no-warm", "warm-failed", "all-failed", "none", "batch"],
)
def test_the_answer_is_one_sentence(shown: StreamView, sentence: str) -> None:
    assert answer(shown) == sentence


def test_rates_and_amounts_leave_out_what_is_not_known() -> None:
    shown = view(warm=good("warm", 0.1), disk=bad("disk"))
    assert rates(shown) == "Warm 10.0 images/s."
    assert amount(shown) == "2 requests to 1 model in 2 phases, 1 error"
    assert rates(view(warm=bad("warm"))) == ""


@pytest.mark.parametrize(
    ("cold", "warm", "value"),
    [(4.0, 2.0, 2.0), (None, 2.0, None), (4.0, None, None), (4.0, 0.0, None), (0.0, 2.0, 0.0)],
)
def test_nothing_is_divided_by_nothing(cold: float | None, warm: float | None, value: float | None) -> None:
    assert times(cold, warm) == value


def summary(mean_s: float | None, stages_s: dict[str, float] | None) -> Summary:
    return Summary(
        requests=1, errors=0, images=1, wall_s=1.0, images_per_s=1.0, wall_s_per_image=1.0,
        latency_s=Latency(mean_s, None, None, None), latency_n=1, stages_s=stages_s, weights_bytes=None, load_bytes_per_s=None,
    )  # fmt: skip


def test_the_parts_of_a_latency_add_up_to_it() -> None:
    divided = break_down(summary(0.010, {"forward": 0.006, "wire": 0.001}))
    assert divided is not None
    assert [part.stage for part in divided.parts] == ["wire", "forward", "rest"]
    assert divided.rest_s == pytest.approx(0.003)
    assert sum(part.seconds for part in divided.parts) == pytest.approx(divided.total_s)


def test_the_stage_outside_the_latency_is_none_of_its_parts() -> None:
    divided = break_down(summary(0.010, {"forward": 0.006, "demote": 0.5}))
    assert divided is not None
    assert [part.stage for part in divided.parts] == ["forward", "rest"]
    assert divided.rest_s == pytest.approx(0.004)


def test_stages_that_say_more_than_the_client_saw_leave_a_negative_rest_and_no_part_for_it() -> None:
    divided = break_down(summary(0.005, {"forward": 0.006}))
    assert divided is not None
    assert divided.parts == (Part("forward", 0.006),)
    assert divided.rest_s == pytest.approx(-0.001)


def test_many_stages_of_another_server_are_gathered_so_that_they_can_be_told_apart() -> None:
    divided = break_down(summary(0.02, {"forward": 0.01, "x": 0.001, "y": 0.003, "z": 0.002, "w": 0.0005}))
    assert divided is not None
    assert [part.stage for part in divided.parts] == ["forward", "y", "z", "other", "rest"]
    assert divided.parts[3].seconds == pytest.approx(0.0015)


def test_without_stages_there_is_nothing_to_divide() -> None:
    assert break_down(summary(0.01, None)) is None


def test_stages_without_a_mean_latency_have_no_rest() -> None:
    divided = break_down(summary(None, {"forward": 0.01}))
    assert divided is not None
    assert divided.rest_s is None
