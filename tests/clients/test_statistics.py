"""dlclient.statistics: figures worked out by hand, and numpy as a second opinion."""

import random

import numpy as np
import pytest
from dlclient.results import Latency, Record, SendLag, Summary
from dlclient.statistics import (
    PERCENTILE_FLOORS,
    forward_alone_s,
    latency,
    nearest_rank,
    percentile,
    summarize,
    temperatures,
)


def record(
    model: str = "a",
    due_s: float = 0.0,
    took_s: float = 0.1,
    *,
    error: str = "",
    images: int = 1,
    cache: str | None = "warm",
    batch_size: int | None = 1,
    sent_after_s: float = 0.0,
    stages: dict[str, float] | None = None,
) -> Record:
    return Record(
        phase="warm",
        index=0,
        due_s=due_s,
        sent_s=due_s + sent_after_s,
        first_byte_s=due_s + took_s,
        done_s=due_s + took_s,
        status=500 if error else 200,
        error=error,
        model=model,
        image="x.jpg",
        bytes_sent=10,
        images=images,
        cache=cache,
        batch_size=batch_size,
        stages=stages,
    )


@pytest.mark.parametrize(
    ("samples", "fraction", "expected"),
    [
        ([1.0], 0.5, 1.0),
        ([1.0, 2.0], 0.5, 1.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0, 4.0], 0.75, 3.0),
        ([1.0, 2.0, 3.0, 4.0], 0.76, 4.0),
        ([1.0, 2.0, 3.0, 4.0], 1.0, 4.0),
        ([float(number) for number in range(1, 101)], 0.99, 99.0),
        ([float(number) for number in range(1, 701)], 0.99, 693.0),
        ([float(number) for number in range(1, 1001)], 0.999, 999.0),
    ],
)
def test_a_percentile_is_the_nearest_rank(samples: list[float], fraction: float, expected: float) -> None:
    assert nearest_rank(samples, fraction) == expected


@pytest.mark.parametrize("size", [1, 2, 7, 10, 100, 643, 662, 1000])
def test_percentiles_are_those_of_numpy(size: int) -> None:
    generator = random.Random(size)
    samples = sorted(generator.random() for _ in range(size))
    for fraction in (0.5, 0.9, 0.99):
        assert nearest_rank(samples, fraction) == np.quantile(samples, fraction, method="inverted_cdf")


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no samples"):
        nearest_rank([], 0.5)
    with pytest.raises(ValueError, match="fraction"):
        nearest_rank([1.0], 0.0)


@pytest.mark.parametrize(("fraction", "floor"), [(0.5, 12), (0.9, 64), (0.99, 662), (0.999, 6636)])
def test_a_percentile_needs_its_samples(fraction: float, floor: int) -> None:
    assert PERCENTILE_FLOORS[fraction] == floor
    assert percentile([1.0] * (floor - 1), fraction) is None
    assert percentile([1.0] * floor, fraction) == 1.0


def test_a_mean_needs_one_sample() -> None:
    assert latency([]) == Latency(None, None, None, None)
    assert latency([0.5]) == Latency(0.5, None, None, None, largest=0.5)
    assert latency([0.25] * 11 + [3.25]) == Latency(0.5, 0.25, None, None, largest=3.25)


def test_samples_need_no_order() -> None:
    assert latency([3.0, 1.0, 2.0] * 4).p50 == 2.0


def test_temperatures_are_counted_over_good_answers() -> None:
    records = [record(cache="warm"), record(cache="warm"), record(cache="disk"), record(cache=None)]
    assert temperatures([*records, record(error="x", cache="disk")]) == {"disk": 1, "unknown": 1, "warm": 2}


def test_a_phase_lasts_until_its_last_request_ended() -> None:
    records = [record(due_s=0.0, took_s=4.0, images=2), record(due_s=1.0, took_s=1.0, images=2)]
    total, _ = summarize(records, ["a"], {})
    assert total.wall_s == 4.0
    assert total.images_per_s == 1.0
    assert total.wall_s_per_image == 1.0
    assert total.latency_s.mean == 2.5


def test_the_wall_time_is_shared_out_by_waiting_time() -> None:
    # two users side by side for 6 s: 9 s of waiting for a, 3 s for b
    records = [record("a", 0.0, 6.0), record("a", 0.0, 3.0), record("b", 3.0, 3.0, images=3)]
    total, services = summarize(records, ["a", "b"], {})
    assert total.wall_s == 6.0
    assert services["a"].wall_s == pytest.approx(4.5)
    assert services["b"].wall_s == pytest.approx(1.5)
    assert services["a"].wall_s_per_image == pytest.approx(2.25)
    assert services["b"].images_per_s == pytest.approx(2.0)


def test_errors_count_as_requests_but_not_as_answers() -> None:
    records = [record(took_s=0.1)] * 3 + [record(took_s=9.0, error="HTTP 500")]
    total, _ = summarize(records, ["a"], {})
    assert (total.requests, total.errors, total.images, total.latency_n) == (4, 1, 3, 3)
    assert total.latency_s.mean == pytest.approx(0.1)
    assert total.wall_s == 9.0


def test_a_phase_of_errors_alone_has_no_figures() -> None:
    total, services = summarize([record(error="x")], ["a", "b"], {"a": 5})
    assert (total.latency_s.mean, total.images_per_s, total.wall_s_per_image, total.stages_s) == (None,) * 4
    assert services["b"].requests == 0
    assert (total.weights_bytes, services["a"].weights_bytes, services["b"].weights_bytes) == (5, 5, None)


def test_nothing_sent_is_a_summary_too() -> None:
    total, services = summarize([], ["a"], {})
    assert (total.requests, total.wall_s, services["a"].wall_s) == (0, 0.0, 0.0)


def test_stages_are_means_over_the_answers_that_tell_them() -> None:
    records = [record(stages={"load": 0.25, "forward": 0.5}), record(stages={"load": 0.75}), record(stages=None)]
    total, _ = summarize(records, ["a"], {})
    assert total.stages_s == {"load": 0.5, "forward": 0.5}


def warm_phase(number: int = 12, batch_size: int | None = 1, **services: dict[str, float]) -> list[Record]:
    return [record(name, stages=stages, batch_size=batch_size) for name, stages in services.items()] * number


def cold(model: str, load_s: float, forward_s: float) -> Record:
    return record(model, cache="disk", stages={"load": load_s, "forward": forward_s})


def test_the_rate_of_loading_is_weights_by_the_extra_time_of_a_cold_request() -> None:
    warm = warm_phase(a={"load": 0.0, "forward": 0.010}, b={"load": 0.0, "forward": 0.030})
    # mapped weights arrive during the forward: 2 ms of loading, and a forward that takes 8 ms more
    records = [cold("a", 0.002, 0.018), cold("a", 0.002, 0.018), cold("b", 0.005, 0.035)]
    total, services = summarize(records, ["a", "b"], {"a": 10_000_000, "b": 40_000_000}, warm)
    assert services["a"].load_bytes_per_s == pytest.approx(10e6 / 0.010)
    assert services["b"].load_bytes_per_s == pytest.approx(40e6 / 0.010)
    assert total.load_bytes_per_s == pytest.approx((2 * 10e6 + 40e6) / 0.030)


def rate(records: list[Record], weights: dict[str, int], warm: list[Record]) -> float | None:
    total, services = summarize(records, ["a"], weights, warm)
    assert total.load_bytes_per_s == services["a"].load_bytes_per_s
    return total.load_bytes_per_s


WARM = {"load": 0.0, "forward": 0.010}


@pytest.mark.parametrize(
    "warm",
    [
        [],  # the load stage alone would not do: mapped weights arrive during the forward
        warm_phase(11, a=WARM),
        warm_phase(50, batch_size=4, a=WARM),
        warm_phase(50, batch_size=None, a=WARM),
        warm_phase(50, b=WARM),
        [record(cache="disk", stages=WARM)] * 50,
        [record(error="x", stages=WARM)] * 50,
    ],
    ids=["none", "few", "shared", "not-told", "other-model", "cold", "failed"],
)
def test_without_enough_warm_requests_of_the_same_batch_there_is_no_rate(warm: list[Record]) -> None:
    assert rate([cold("a", 0.020, 0.5)], {"a": 40_000_000}, warm) is None


def test_requests_that_shared_a_batch_do_not_count_in_the_rate() -> None:
    shared = {"load": 0.0, "forward": 0.5}
    warm = [*warm_phase(12, a=WARM), *warm_phase(50, batch_size=8, a=shared)]
    records = [cold("a", 0.020, 0.010), record(cache="disk", batch_size=2, stages={"load": 0.9, "forward": 0.9})]
    assert rate(records, {"a": 40_000_000}, warm) == pytest.approx(2e9)


def test_a_load_smaller_than_the_forwards_noise_has_no_rate() -> None:
    noisy = [{"load": 0.0, "forward": 0.1 * (1 + index % 2)} for index in range(20)]
    warm = [record("a", stages=stages) for stages in noisy]  # 150 ms, give or take 11 ms: two such means, 16 ms
    for extra_s, seen in ((0.010, False), (0.040, True)):
        records = [record("a", cache="disk", stages=stages | {"load": extra_s}) for stages in noisy]
        assert (rate(records, {"a": 1_000_000}, warm) is not None) == seen


def test_a_forward_alone_is_that_of_one_image_in_a_batch_of_its_own() -> None:
    records = [
        record("a", stages={"forward": 0.1}),
        record("a", stages={"forward": 0.3}),
        record("a", stages={"forward": 9.0}, batch_size=2),
        record("a", stages={"forward": 9.0}, batch_size=4, images=4),
        record("a", stages={"forward": 9.0}, error="x"),
        record("b", stages={"load": 1.0}),
    ]
    found = forward_alone_s(records)
    assert list(found) == ["a"]
    assert found["a"] == pytest.approx((0.2, 2))


def test_making_a_model_cold_is_no_part_of_the_latency_but_of_the_wall_time() -> None:
    one = record(took_s=0.5, stages={"demote": 0.4, "load": 0.05})
    assert one.latency_s == pytest.approx(0.1)
    assert one.waited_s == 0.5
    total, services = summarize([one], ["a"], {})
    assert total.latency_s.mean == pytest.approx(0.1)
    assert total.wall_s == services["a"].wall_s == 0.5


def test_the_lag_of_sending_is_summed_up_by_the_sample_rule() -> None:
    few, _ = summarize([record(sent_after_s=0.001), record(sent_after_s=0.003), record(error="x")], ["a"], {})
    many, _ = summarize([record(sent_after_s=number / 1e6) for number in range(1000)], ["a"], {})
    none, _ = summarize([record(error="x")], ["a"], {})
    assert few.send_lag_s == SendLag(mean=0.002, p99=None, largest=0.003)
    assert many.send_lag_s is not None
    assert many.send_lag_s.p99 == pytest.approx(0.000989)
    assert none.send_lag_s is None


@pytest.mark.parametrize(
    ("records", "weights"),
    [
        ([record(stages={"load": 0.0, "forward": 0.1})], {"a": 1000}),  # warm: nothing was loaded
        ([record(cache="disk")], {"a": 1000}),  # no stages told
        ([record(cache=None, stages={"load": 0.1})], {"a": 1000}),  # no temperature told
        ([cold("a", 0.1, 0.1)], {}),  # size not known
        ([cold("a", 0.0, 0.001)], {"a": 1000}),  # no slower than warm
    ],
)
def test_where_nothing_was_seen_to_be_loaded_there_is_no_rate(records: list[Record], weights: dict[str, int]) -> None:
    assert rate(records, weights, warm_phase(a={"load": 0.0, "forward": 0.05})) is None


def test_a_model_that_nobody_listed_is_not_lost() -> None:
    total, services = summarize([record("a"), record("z")], ["a"], {})
    assert isinstance(services["z"], Summary)
    assert total.requests == 2
