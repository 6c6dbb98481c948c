"""dlload.plan: pure, seeded, the same everywhere."""

import hashlib
import subprocess
import sys
from collections import Counter

import msgspec
import pytest
from dlclient.results import PlanHeader, Slot
from dlload.errors import OptionError
from dlload.plan import Plan, draw, mix_weights

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
    return draw(seed=seed, requests=requests, services=services, mix=mix, images=images, batch_size=batch_size)


def test_a_plan_is_the_same_on_every_machine() -> None:
    # a digest computed once: a change here breaks every comparison with earlier results
    assert plan(requests=5, mix="zipf:1.1").sha256() == GOLDEN
    assert [slot.model for slot in plan(requests=8).slots] == ["c", "a", "c", "b", "b", "b", "a", "a"]


GOLDEN = "2da0013125f8f2aa5d92643db88367e5f9b5a4ee186998115768e93e683957eb"


def test_equal_seeds_give_equal_bytes_in_another_process() -> None:
    code = (
        "from dlload.plan import draw; print(draw(seed=7, requests=50, services=('a', 'b'), mix='zipf:0.9',"
        " images=('x', 'y'), batch_size=2).sha256())"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    mine = draw(seed=7, requests=50, services=("a", "b"), mix="zipf:0.9", images=("x", "y"), batch_size=2)
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


@pytest.mark.parametrize(
    ("mix", "weights"),
    [
        ("uniform", {"a": 1.0, "b": 1.0, "c": 1.0}),
        ("zipf:1", {"a": 1.0, "b": 1 / 2, "c": 1 / 3}),
        ("zipf:2", {"a": 1.0, "b": 1 / 4, "c": 1 / 9}),
        ("zipf:0", {"a": 1.0, "b": 1.0, "c": 1.0}),
        ("a=3,b=1,c=0", {"a": 3.0, "b": 1.0, "c": 0.0}),
        (" c = 1 , a=2, b=0.5", {"a": 2.0, "b": 0.5, "c": 1.0}),
    ],
)
def test_a_mix_means_these_weights(mix: str, weights: dict[str, float]) -> None:
    assert mix_weights(mix, SERVICES) == pytest.approx(weights)


@pytest.mark.parametrize(
    ("mix", "says"),
    [
        ("even", "uniform, zipf:S"),
        ("zipf", "uniform, zipf:S"),
        ("zipf:", "exponent"),
        ("zipf:-1", "exponent"),
        ("zipf:nan", "exponent"),
        ("a=1,b=1", "no weight for c"),
        ("a=1,b=1,c=1,d=1", "d: not among the services a, b, c"),
        ("a=1,b=x,c=1", "the weight of b must be a number"),
        ("a=1,b=-2,c=1", "the weight of b must be a number"),
        ("a=1,a=2,b=1,c=1", "a is there twice"),
        ("a=1,,b=1", "is no weight"),
        ("a=0,b=0,c=0", "all weights are 0"),
    ],
)
def test_a_mix_that_cannot_be_used_says_why(mix: str, says: str) -> None:
    with pytest.raises(OptionError, match=says):
        mix_weights(mix, SERVICES)


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
