"""The engine that sleeps."""

import re
import statistics
import time

import numpy as np
import pytest
from dlmodels.engines.base import Place
from dlmodels.engines.simulated import Profile, SimulatedEngine, SimulatedModel
from dlmodels.errors import ForwardError, OutOfMemoryError, SettingError
from dlmodels.repository import ModelSpec


def engine() -> SimulatedEngine:
    started = SimulatedEngine(Place("cpu", 1))
    started.start()
    return started


def model(classes: int = 10, **parameters: object) -> tuple[SimulatedModel, list[float]]:
    """A loaded model, and the list that its sleeps go to."""
    its_engine = engine()
    slept: list[float] = []
    its_engine.sleep = slept.append
    made = its_engine.prepare(ModelSpec("model", "simulated", classes=classes, parameters=parameters))
    made.load()
    return made, slept


@pytest.mark.parametrize(
    ("forward_s", "batch_size", "expected"),
    [
        (0.01, 1, 0.01),
        (0.01, 64, 0.01),
        ((0.01, 0.015), 1, 0.01),
        ((0.01, 0.015), 2, 0.015),
        ((0.01, 0.015), 4, 0.025),
        ((0.01, 0.015, 0.016), 13, 0.026),
        ((0.01,), 3, 0.03),
        ((0.03, 0.01), 5, 0.0),
    ],
)
def test_forward_time_is_a_number_or_goes_on_by_the_lists_last_step(
    forward_s: float | tuple[float, ...], batch_size: int, expected: float
) -> None:
    assert Profile(forward_s=forward_s).forward_seconds(batch_size) == pytest.approx(expected)


def test_load_and_forward_sleep_as_long_as_they_are_told() -> None:
    loaded, slept = model(load_s=0.5, forward_s=[0.1, 0.2])
    loaded.load()  # nothing more: it is loaded
    loaded.run([b"a"])
    loaded.run([b"a", b"b"])
    assert slept == [0.5, 0.1, 0.2]


def test_zero_times_do_not_sleep_at_all() -> None:
    loaded, slept = model()
    loaded.run([b"a"])
    assert slept == []


def test_a_real_sleep_lasts_at_least_its_time() -> None:
    loaded = engine().prepare(ModelSpec("model", "simulated", parameters={"forward_s": 0.02}))
    loaded.load()
    began = time.perf_counter()
    loaded.run([b"a"])
    assert time.perf_counter() - began >= 0.02


def test_jitter_keeps_the_mean_and_has_the_deviation_asked_for_and_is_seeded() -> None:
    draws = []
    for _ in range(2):
        loaded, slept = model(forward_s=0.1, jitter=0.3, seed=5)
        for _ in range(4000):
            loaded.run([b"a"])
        draws.append(slept)
    assert draws[0] == draws[1]
    assert statistics.mean(draws[0]) == pytest.approx(0.1, rel=0.03)
    assert statistics.stdev(draws[0]) == pytest.approx(0.03, rel=0.1)
    assert min(draws[0]) > 0


def test_answers_are_probabilities_in_float32() -> None:
    loaded, _ = model(classes=1000)
    answer = loaded.run([b"a", b"b"])
    assert answer.dtype == np.float32
    assert answer.shape == (2, 1000)
    assert answer.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (answer > 0).all()


def test_answer_depends_on_the_input_alone_not_on_its_batch() -> None:
    loaded, _ = model(classes=1000)
    inputs: list[bytes] = [bytes([i]) * 5000 for i in range(20)]
    together = loaded.run(inputs)
    apart = np.concatenate([loaded.run([one]) for one in inputs])
    assert np.array_equal(together, apart)
    assert len(set(together.argmax(axis=1))) > 15


@pytest.mark.parametrize("other", [b"x" * 4999, b"x" * 5001, b"x" * 4990 + b"y" * 10])
def test_length_and_last_bytes_change_the_answer(other: bytes) -> None:
    loaded, _ = model(classes=1000)
    assert loaded.run([other]).argmax() != loaded.run([b"x" * 5000]).argmax()


def test_a_memoryview_counts_as_its_bytes() -> None:
    loaded, _ = model(classes=1000)
    data = bytes(range(256)) * 20
    assert np.array_equal(loaded.run([memoryview(data)]), loaded.run([data]))


def test_seed_changes_the_answer() -> None:
    one, _ = model(classes=1000, seed=1)
    two, _ = model(classes=1000, seed=2)
    assert one.run([b"a"]).argmax() != two.run([b"a"]).argmax()


def test_decoding_is_off_unless_asked_for() -> None:
    assert model()[0].decodes is False
    assert model(decode=True)[0].decodes is True


def test_decoded_inputs_are_told_apart_by_their_pixels() -> None:
    loaded, _ = model(classes=1000, decode=True)
    batch = np.random.default_rng(1).random((8, 3, 24, 24), dtype=np.float32)
    together = loaded.run(batch)
    assert np.array_equal(together[3], loaded.run(batch[3:4])[0])
    assert len(set(together.argmax(axis=1))) > 5


def test_batches_above_the_limit_run_out_of_memory() -> None:
    loaded, slept = model(oom_above=2, forward_s=0.1)
    assert loaded.run([b"a", b"b"]).shape == (2, 10)
    with pytest.raises(OutOfMemoryError, match="a batch of 3 exceeds oom_above = 2"):
        loaded.run([b"a", b"b", b"c"])
    assert slept == [0.1]


def test_bytes_are_booked_while_loaded() -> None:
    device = engine()
    before = device.memory()
    loaded = device.prepare(ModelSpec("model", "simulated", parameters={"bytes": 1000}))
    assert loaded.weights_bytes == 1000
    assert device.memory() == before
    loaded.load()
    loaded.load()
    assert device.memory().free_bytes == before.free_bytes - 1000
    loaded.unload()
    loaded.unload()
    assert device.memory() == before


def test_a_model_larger_than_what_is_free_does_not_load() -> None:
    device = engine()
    half = device.memory().total_bytes // 2 + 1
    models = [device.prepare(ModelSpec(name, "simulated", parameters={"bytes": half})) for name in "ab"]
    models[0].load()
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        models[1].load()
    models[0].unload()
    models[1].load()


def test_running_needs_weights_and_an_input() -> None:
    loaded, _ = model()
    with pytest.raises(ForwardError, match="no input"):
        loaded.run([])
    loaded.unload()
    with pytest.raises(ForwardError, match="not loaded"):
        loaded.run([b"a"])


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"forward": 1}, "'forward', which does not exist. Did you mean 'forward_s'?"),
        ({"sleep": 1}, "Valid are: load_s, host_load_s, forward_s, jitter, bytes, seed, decode, oom_above"),
        ({"load_s": "1"}, "load_s: Expected `float | object`, got `str`"),
        ({"load_s": -1}, "load_s: Expected `float` >= 0.0"),
        ({"load_s": 1e9}, "load_s: Expected `float` <= 3600.0"),
        ({"forward_s": [0.1, -0.1]}, "forward_s[1]: Expected `float` >= 0.0"),
        ({"forward_s": []}, "forward_s is an empty list"),
        ({"forward_s": float("nan")}, "forward_s: Expected `float`"),
        ({"decode": 1}, "decode: Expected `bool`, got `int`"),
        ({"bytes": 1.5}, "bytes: Expected `int`, got `float`"),
        ({"oom_above": -1}, "oom_above: Expected `int` >= 0"),
    ],
)
def test_bad_profile_is_refused_by_the_name_of_its_key(parameters: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        engine().prepare(ModelSpec("model", "simulated", parameters=parameters))


def test_a_model_without_classes_is_refused() -> None:
    with pytest.raises(SettingError, match="at least 1 class"):
        engine().prepare(ModelSpec("model", "simulated", classes=0))


# ---- distributions and the host tier

QUARTILES = {"quantiles": [0.1, 0.2, 0.2, 0.4, 0.5]}


def staging(**profile: object) -> tuple[SimulatedModel, list[float]]:
    """A model on an engine with 1,000 bytes of host tier that notes its sleeps."""
    place = SimulatedEngine(Place("cpu", 1, host_bytes=1000))
    place.start()
    slept: list[float] = []
    place.sleep = slept.append
    return place.prepare(ModelSpec("model", "simulated", parameters=profile)), slept


def test_quantiles_are_drawn_as_they_were_measured() -> None:
    loaded, slept = model(load_s=QUARTILES, forward_s=[QUARTILES, 0.7])
    slept.clear()
    for _ in range(4000):
        loaded.run([b"x"])
    for probability, quantile in zip((0.25, 0.5, 0.75), QUARTILES["quantiles"][1:4], strict=True):
        assert statistics.quantiles(slept, n=4, method="inclusive")[round(4 * probability) - 1] == pytest.approx(
            quantile, abs=0.02
        )
    assert (min(slept) >= 0.1, max(slept) <= 0.5) == (True, True)
    assert statistics.mean(slept) == pytest.approx(loaded.profile.forward_seconds(1), rel=0.02)
    assert loaded.profile.forward_seconds(1) == pytest.approx((0.15 + 0.2 + 0.3 + 0.45) / 4)
    slept.clear()
    loaded.run([b"x"] * 2)
    assert slept == [0.7]


def test_beyond_a_list_that_ends_in_quantiles_they_grow_with_the_mean() -> None:
    loaded, slept = model(forward_s=[0.1, {"quantiles": [0.15, 0.25]}])
    slept.clear()
    for _ in range(1000):
        loaded.run([b"x"] * 4)
    assert statistics.mean(slept) == pytest.approx(0.4, rel=0.02)
    assert (min(slept) >= 0.3, max(slept) <= 0.5) == (True, True)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"load_s": {"quantiles": [0.2, 0.1]}}, "quantiles must ascend"),
        ({"load_s": {"quantiles": [0.2]}}, "length >= 2"),
        ({"load_s": {"quantils": [0.1, 0.2]}}, "quantils"),
        ({"load_s": QUARTILES, "forward_s": QUARTILES, "jitter": 0.1}, "all are quantiles: leave it out"),
    ],
)
def test_a_distribution_that_is_none_is_refused(parameters: dict[str, object], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        engine().prepare(ModelSpec("model", "simulated", parameters=parameters))


def test_staging_takes_the_reading_and_a_load_from_there_the_copy() -> None:
    staged, slept = staging(load_s=1.0, host_load_s=0.25, bytes=600)
    assert staged.reload_tiers == ("host", "disk")
    staged.load()
    staged.unload()
    staged.stage()
    staged.stage()
    assert staged.staged
    staged.load()
    assert slept == [1.0, 0.75, 0.25]
    staged.unload()
    assert staged.staged, "what leaves the device stays in host memory"
    staged.unstage()
    assert not staged.staged


def test_the_host_tier_has_only_so_many_bytes() -> None:
    staged, _ = staging(host_load_s=0.1, bytes=1001)
    with pytest.raises(OutOfMemoryError, match="--host-cache-mb"):
        staged.stage()
    assert not staged.staged


def test_without_a_copy_time_or_without_host_memory_there_is_no_host_tier() -> None:
    assert staging()[0].reload_tiers == ("disk",)
    without = engine().prepare(ModelSpec("model", "simulated", parameters={"host_load_s": 0.1}))
    assert without.reload_tiers == ("disk",)


def test_its_settings_are_the_whole_profile() -> None:
    settings = engine().prepare(ModelSpec("model", "simulated", parameters={"load_s": QUARTILES})).settings
    assert settings["load_s"] == {"quantiles": tuple(QUARTILES["quantiles"])}
    assert (settings["jitter"], settings["host_load_s"]) == (0.0, None)


def test_it_has_as_many_lanes_as_its_profile_says_and_otherwise_one() -> None:
    single, _ = model()
    assert len(single.lanes) == 1
    several, slept = model(lanes=3, forward_s=0.1)
    assert [len(lane([b"a"])) for lane in several.lanes] == [1, 1, 1]
    assert slept == [0.1, 0.1, 0.1]
