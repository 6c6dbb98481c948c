"""dlload.plan: pure, seeded, the same everywhere."""

import hashlib
import subprocess
import sys
from collections import Counter

import msgspec
import pytest
from dlclient.results import PlanHeader, Seeds, Slot
from dlload.arrivals import read_course
from dlload.errors import OptionError
from dlload.plan import AtOnce, Closed, Intervals, Open, Plan, draw, faster

SERVICES = ("a", "b", "c")
IMAGES = ("x.jpg", "y.jpg", "z.jpg")


def plan(
    seed: int = 1,
    requests: int = 200,
    services: tuple[str, ...] = SERVICES,
    mix: str = "uniform",
    images: tuple[str, ...] = IMAGES,
    batch_size: int = 1,
) -> Plan:
    return draw(
        seeds=Seeds.all(seed), load=Closed(requests), services=services, mix=mix, images=images, batch_size=batch_size
    )


def test_a_plan_is_the_same_on_every_machine() -> None:
    # a digest computed once: a change here breaks every comparison with earlier results
    assert plan(requests=5, mix="zipf:1.1").sha256() == GOLDEN
    assert [slot.model for slot in plan(requests=8).slots] == ["a", "c", "a", "b", "a", "b", "a", "a"]


GOLDEN = "2269ea3c859fd3ca03fafd60b0a0d845adcfc534c0dbd27eda3689f734d059a2"


def test_equal_seeds_give_equal_bytes_in_another_process() -> None:
    code = (
        "from dlclient.results import Seeds; from dlload.plan import Open, draw; from dlload.arrivals import read_course;"
        "print(draw(seeds=Seeds.all(7), load=Open(read_course('50', 1), 'gamma:2', 50), services=('a', 'b'), mix='zipf:0.9',"
        " images=('x', 'y'), batch_size=2).sha256())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    mine = draw(
        seeds=Seeds.all(7),
        load=Open(read_course("50", 1), "gamma:2", 50),
        services=("a", "b"),
        mix="zipf:0.9",
        images=("x", "y"),
        batch_size=2,
    )
    assert other == mine.sha256() == hashlib.sha256(mine.encode()).hexdigest()


def test_another_seed_gives_another_plan() -> None:
    assert plan(seed=2).slots != plan(seed=1).slots


def test_the_mix_does_not_change_which_images_are_sent() -> None:
    uniform, skewed = plan(), plan(mix="a=1,b=50,c=1")
    assert [slot.images for slot in uniform.slots] == [slot.images for slot in skewed.slots]
    assert [slot.model for slot in uniform.slots] != [slot.model for slot in skewed.slots]


def test_the_images_do_not_change_which_models_are_asked() -> None:
    assert [slot.model for slot in plan().slots] == [slot.model for slot in plan(images=("q.jpg",)).slots]


def test_a_longer_plan_begins_like_a_shorter_one() -> None:
    assert plan(requests=300).slots[:200] == plan(requests=200).slots


def test_an_empty_plan_is_refused() -> None:
    with pytest.raises(OptionError, match="at least one request"):
        plan(requests=0)
    with pytest.raises(OptionError, match="at least one image"):
        plan(batch_size=0)
    with pytest.raises(OptionError, match="no service"):
        plan(services=())


def test_models_are_asked_as_often_as_the_mix_says() -> None:
    slots = plan(requests=30_000, mix="a=6,b=3,c=1").slots
    counts = Counter(slot.model for slot in slots)
    # binomial: the standard deviation is at most 0.003 of the requests
    assert {name: counts[name] / 30_000 for name in SERVICES} == pytest.approx(
        {"a": 0.6, "b": 0.3, "c": 0.1}, abs=0.015
    )


def test_images_are_drawn_evenly_and_independently_of_the_model() -> None:
    slots = plan(requests=30_000).slots
    pairs = Counter((slot.model, slot.images[0]) for slot in slots)
    assert len(pairs) == 9
    assert all(count / 30_000 == pytest.approx(1 / 9, abs=0.01) for count in pairs.values())


def test_a_weight_of_zero_leaves_a_service_out() -> None:
    without = plan(mix="a=1,b=0,c=1")
    assert without.header.services == ("a", "c")
    assert {slot.model for slot in without.slots} == {"a", "c"}


def test_a_batch_has_its_number_of_images() -> None:
    assert {len(slot.images) for slot in plan(batch_size=4).slots} == {4}


def test_the_file_is_the_header_and_one_line_a_slot() -> None:
    drawn = plan(requests=3)
    header, *rows = drawn.encode().splitlines()
    assert msgspec.json.decode(header, type=PlanHeader) == drawn.header
    assert [msgspec.json.decode(row, type=Slot) for row in rows] == list(drawn.slots)


def drawn(load: Closed | Open | Intervals | AtOnce, mix: str = "uniform", **seeds: int) -> Plan:
    given = {"schedule": 1, "models": 1, "images": 1, "think": 1} | seeds
    return draw(seeds=Seeds(**given), load=load, services=SERVICES, mix=mix, images=IMAGES, batch_size=1)


def test_each_seed_changes_its_own_draws_and_no_others() -> None:
    load = Open(read_course("100", 1), requests=100)
    plain = drawn(load).slots
    for name, field in (("schedule", "due_s"), ("models", "model"), ("images", "images")):
        other = drawn(load, "uniform", **{name: 2}).slots
        changed = {
            part
            for part in ("due_s", "model", "images")
            if [getattr(a, part) for a in plain] != [getattr(b, part) for b in other]
        }
        assert changed == {field}
    thinking = Closed(50, "exponential", 0.5)
    assert [slot.think_s for slot in drawn(thinking).slots] != [slot.think_s for slot in drawn(thinking, think=2).slots]
    assert [slot.model for slot in drawn(thinking).slots] == [slot.model for slot in drawn(thinking, think=2).slots]


def test_another_rate_goes_to_the_same_models_and_is_the_same_schedule_faster() -> None:
    slow, fast = (drawn(Open(read_course(rate, 1), requests=50)) for rate in ("10", "20"))
    assert [slot.model for slot in slow.slots] == [slot.model for slot in fast.slots]
    assert [slot.due_s for slot in fast.slots] == pytest.approx(
        [(slot.due_s or 0) / 2 for slot in slow.slots], abs=1e-6
    )


def test_a_closed_loop_has_no_due_times_and_thinks_as_it_is_told() -> None:
    assert {(slot.due_s, slot.think_s) for slot in drawn(Closed(20)).slots} == {(None, 0.0)}
    assert {slot.think_s for slot in drawn(Closed(20, "constant", 0.25)).slots} == {0.25}
    thinks = [slot.think_s for slot in drawn(Closed(20_000, "exponential", 0.25)).slots]
    assert sum(thinks) / len(thinks) == pytest.approx(0.25, rel=0.03)


def test_offline_is_all_at_once() -> None:
    plan_ = drawn(AtOnce(5))
    assert [slot.due_s for slot in plan_.slots] == [0.0] * 5
    assert plan_.is_open
    assert plan_.offered_per_s is None


def test_a_plan_twice_as_fast_has_half_the_times_and_at_1_it_is_the_same() -> None:
    plan_ = drawn(Open(read_course("10", 1), requests=20))
    assert faster(plan_, 1.0) is plan_
    assert [slot.due_s for slot in faster(plan_, 2.0).slots] == pytest.approx(
        [(slot.due_s or 0) / 2 for slot in plan_.slots], abs=1e-6
    )
    assert faster(plan_, 2.0).header.load.endswith("2 x as fast")
