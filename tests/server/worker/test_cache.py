"""The model cache against models that only count, with its books checked after every step."""

import random
import threading

import pytest
from dlmodels.errors import LoadError, OutOfMemoryError
from dlserve.eviction import EVICTIONS, Eviction
from dlserve.messages import Evicted, Loaded, Why
from dlserve.worker.cache import ModelCache
from dlserve.worker.entry import CannotFitError

from tests.server.worker.conftest import Weights


class Shelf:
    """A cache with models 0, 1, 2 ... of the given sizes, and its events in short."""

    def __init__(self, budget: int, *sizes: int, host: int = 0, eviction: Eviction = "lru") -> None:
        self.now = 0.0
        """A load takes no time by this clock, so no model has anything to earn."""
        self.events: list[tuple[str, int, str, int]] = []
        self.cache = ModelCache(budget, self.note, host_bytes=host, eviction=eviction, clock=lambda: self.now)
        self.models = [Weights(f"m{number}", size, host=host > 0) for number, size in enumerate(sizes)]
        for number, model in enumerate(self.models):
            self.cache.add(number, model)

    def note(self, event: Loaded | Evicted) -> None:
        """Keep an event, and see that the budget holds at that very moment."""
        books = self.cache.device if event.tier == "device" else self.cache.host
        assert event.used_bytes == books.used_bytes <= books.budget_bytes
        kind = ("loaded", event.source) if isinstance(event, Loaded) else ("evicted", event.reason)
        on = "" if event.tier == "device" else " host"
        self.events.append((kind[0] + on, event.service, kind[1], event.used_bytes))

    def tick(self, seconds: float) -> None:
        """Time passes."""
        self.now += seconds

    def touch(self, service: int) -> str:
        """Use a model for a moment; where it was found."""
        self.now += 1
        with self.cache.use(service) as resident:
            assert resident.model is self.models[service]
            assert self.models[service].loaded
            self.cache.check()
            found = resident.found
        self.cache.check()
        assert [n for n, model in enumerate(self.models) if model.loaded] == [
            n for n in range(len(self.models)) if n in self.cache
        ]
        return found


def test_the_first_use_loads_and_the_second_finds_it_warm() -> None:
    shelf = Shelf(100, 60)
    assert [shelf.touch(0), shelf.touch(0)] == ["disk", "warm"]
    assert shelf.models[0].loads == 1
    assert shelf.events == [("loaded", 0, "disk", 60)]
    assert shelf.cache.device.used_bytes == 60


@pytest.mark.parametrize(
    ("sizes", "uses", "evicted"),
    [
        pytest.param((40, 40, 40), [0, 1, 2], [0], id="the least recently used goes"),
        pytest.param((40, 40, 40), [0, 1, 0, 2], [1], id="use makes recent"),
        pytest.param((30, 30, 30, 90), [0, 1, 2, 3], [0, 1, 2], id="as many as room asks for"),
        pytest.param((30, 30, 30, 50), [0, 1, 2, 3], [0, 1], id="and no more"),
        pytest.param((50, 50), [0, 1, 0, 1], [], id="an exact fit evicts nobody"),
        pytest.param((0, 100, 0), [0, 1, 2], [], id="no bytes need no room"),
    ],
)
def test_who_leaves_for_whom(sizes: tuple[int, ...], uses: list[int], evicted: list[int]) -> None:
    shelf = Shelf(100, *sizes)
    for service in uses:
        shelf.touch(service)
    assert [event[1] for event in shelf.events if event[0] == "evicted"] == evicted
    assert all(event[2] == "room" for event in shelf.events if event[0] == "evicted")


def test_what_can_never_fit_is_refused_with_sizes_and_a_cure_and_evicts_nobody() -> None:
    shelf = Shelf(100 << 20, 50 << 20, 101 << 20)
    shelf.touch(0)
    with (
        pytest.raises(CannotFitError, match=r"'m1' needs 101\.0 MiB .* budget is 100\.0 MiB.*--cache-mb"),
        shelf.cache.use(1),
    ):
        pass
    shelf.cache.check()
    assert 0 in shelf.cache


def test_a_model_in_use_is_never_evicted() -> None:
    shelf = Shelf(100, 60, 30, 60)
    shelf.touch(1)
    with shelf.cache.use(0):
        with (
            pytest.raises(CannotFitError, match="in use just now or have only just been loaded hold"),
            shelf.cache.use(2),
        ):
            pass
        assert 0 in shelf.cache
        assert 1 in shelf.cache, "nobody is evicted in vain"
        with pytest.raises(RuntimeError, match="in use"):
            shelf.cache.demote(0, "disk")
        shelf.cache.check()
    assert shelf.touch(2) == "disk"


def test_demotion_makes_the_next_use_cold_and_says_why() -> None:
    shelf = Shelf(100, 60)
    shelf.cache.demote(0, "disk")
    assert shelf.events == [], "a cold model needs no demotion"
    shelf.touch(0)
    shelf.cache.demote(0, "disk")
    shelf.cache.check()
    assert not shelf.models[0].loaded
    assert shelf.touch(0) == "disk"
    assert shelf.events[1] == ("evicted", 0, "asked", 0)


def test_a_forgotten_model_gives_its_bytes_back() -> None:
    shelf = Shelf(100, 60, 20)
    shelf.touch(0)
    shelf.cache.forget(0)
    shelf.cache.forget(0)
    shelf.cache.forget(1)
    shelf.cache.check()
    assert shelf.cache.device.used_bytes == 0
    assert not shelf.models[0].loaded
    assert shelf.events[1:] == [("evicted", 0, "forgotten", 0)]
    with pytest.raises(KeyError), shelf.cache.use(0):
        pass


def test_a_load_from_disk_goes_by_way_of_the_host_tier_where_an_evicted_model_then_is() -> None:
    shelf = Shelf(100, 60, 60, host=1000)
    assert [shelf.touch(0), shelf.touch(1), shelf.touch(0), shelf.touch(0)] == ["disk", "disk", "host", "warm"]
    assert shelf.events == [
        ("loaded host", 0, "disk", 60),
        ("loaded", 0, "disk", 60),
        ("evicted", 0, "room", 0),
        ("loaded host", 1, "disk", 120),
        ("loaded", 1, "disk", 60),
        ("evicted", 1, "room", 0),
        ("loaded", 0, "host", 60),
    ]
    assert [model.stages for model in shelf.models] == [1, 1]


def test_demotion_to_a_tier_is_found_there_whatever_it_came_from() -> None:
    shelf = Shelf(100, 60, host=1000)
    for start in (lambda: None, lambda: shelf.touch(0), lambda: shelf.cache.demote(0, "disk")):
        start()
        shelf.cache.demote(0, "host")
        shelf.cache.check()
        assert (shelf.models[0].loaded, shelf.models[0].staged) == (False, True)
        assert shelf.touch(0) == "host"
    shelf.cache.demote(0, "disk")
    shelf.cache.check()
    assert (shelf.models[0].loaded, shelf.models[0].staged) == (False, False), "no byte in a warmer tier"
    assert shelf.touch(0) == "disk"


def test_the_host_tier_keeps_its_budget_and_lets_the_least_go() -> None:
    shelf = Shelf(50, 50, 50, 50, 50, host=100)
    for service in (0, 1, 2):
        shelf.touch(service)
    assert [shelf.cache.temperature(service) for service in range(4)] == ["disk", "host", "warm", "disk"]
    shelf.cache.demote(3, "host")
    assert [shelf.cache.temperature(service) for service in range(4)] == ["disk", "disk", "warm", "host"]
    shelf.cache.check()


def test_nothing_worth_more_leaves_the_host_tier_for_a_load_but_it_does_where_a_request_asks() -> None:
    shelf = Shelf(100, 50, 50, host=50, eviction="value")
    for model in shelf.models:
        model.before_stage = lambda: shelf.tick(1)
    for _ in range(3):
        shelf.touch(0)
    shelf.touch(1)
    assert (0 in shelf.cache.host, 1 in shelf.cache.host) == (True, False)
    shelf.cache.demote(1, "host")
    assert (0 in shelf.cache.host, 1 in shelf.cache.host) == (False, True)
    shelf.cache.check()


def test_a_model_too_large_for_the_host_tier_is_loaded_past_it_and_cannot_be_demoted_to_it() -> None:
    shelf = Shelf(100, 60, host=50)
    assert shelf.touch(0) == "disk"
    with pytest.raises(CannotFitError, match=r"'m0' needs .* --host-cache-mb"):
        shelf.cache.demote(0, "host")
    shelf.cache.check()
    assert 0 in shelf.cache, "it is as warm as it was"


def test_a_host_tier_without_room_after_all_costs_a_load_nothing_and_a_demotion_its_request() -> None:
    shelf = Shelf(100, 60, host=1000)

    def fragmented() -> None:
        raise OutOfMemoryError("no run of pages is long enough")

    shelf.models[0].before_stage = fragmented
    assert shelf.touch(0) == "disk"
    assert 0 not in shelf.cache.host
    with pytest.raises(OutOfMemoryError, match="pages"):
        shelf.cache.demote(0, "host")
    shelf.cache.check()


def test_a_file_that_is_gone_leaves_nothing_in_any_tier() -> None:
    shelf = Shelf(100, 60, host=1000)

    def gone() -> None:
        raise LoadError("the file is gone")

    shelf.models[0].before_stage = gone
    with pytest.raises(LoadError), shelf.cache.use(0):
        pass
    shelf.cache.check()
    assert shelf.cache.temperature(0) == "disk"
    assert shelf.events == []


def test_a_pinned_model_leaves_for_no_other_but_for_a_request_that_asks() -> None:
    shelf = Shelf(100, 60, 30, 60)
    shelf.cache.add(0, shelf.models[0], pinned=True)
    for service in (0, 1):
        shelf.touch(service)
    with pytest.raises(CannotFitError, match="pin fewer models"), shelf.cache.use(2):
        pass
    assert 0 in shelf.cache
    assert shelf.cache.wait_s(2) == 0, "waiting would not help"
    shelf.cache.demote(0, "disk")
    assert shelf.touch(2) == "disk"


def test_a_prefetch_evicts_nobody_and_earns_no_stay() -> None:
    shelf = Shelf(100, 60, 30, 60)
    shelf.models[1].before_load = lambda: shelf.tick(5)
    shelf.touch(0)
    assert shelf.cache.prefetch(2) == 0
    assert shelf.cache.prefetch(1) == 5
    assert shelf.cache.prefetch(1) == 0
    shelf.cache.check()
    assert shelf.touch(1) == "warm"
    assert shelf.cache.wait_s(2) == 0
    assert shelf.touch(2) == "disk"
    assert shelf.cache.prefetch(99) == 0, "a service deleted meanwhile"


def test_what_was_loaded_for_a_request_stays_until_it_has_earned_its_load() -> None:
    shelf = Shelf(100, 60, 60)
    shelf.models[0].before_load = lambda: shelf.tick(2)
    shelf.touch(0)
    assert shelf.cache.wait_s(1) == 2
    with pytest.raises(CannotFitError, match="only just been loaded"), shelf.cache.use(1):
        pass
    shelf.tick(1.5)
    assert shelf.cache.wait_s(1) == 0.5
    shelf.tick(0.5)
    assert shelf.cache.wait_s(1) == 0
    assert shelf.touch(1) == "disk"


@pytest.mark.parametrize("why", ["cold", "ahead"])
def test_what_nobody_has_waited_for_earns_no_stay(why: Why) -> None:
    shelf = Shelf(100, 60, 60)
    shelf.models[0].before_load = lambda: shelf.tick(2)
    with shelf.cache.use(0, why):
        pass
    assert shelf.cache.wait_s(1) == 0
    assert shelf.touch(1) == "disk"


def test_clear_leaves_nothing() -> None:
    shelf = Shelf(100, 40, 40)
    shelf.touch(0)
    shelf.touch(1)
    shelf.cache.clear()
    shelf.cache.check()
    assert shelf.cache.device.used_bytes == 0
    assert not any(model.loaded for model in shelf.models)


def test_out_of_memory_while_loading_evicts_all_that_is_unused_and_tries_once_more() -> None:
    shelf = Shelf(100, 30, 30, 30)
    shelf.touch(0)
    shelf.touch(1)

    def short_of_memory() -> None:
        if shelf.models[0].loaded or shelf.models[1].loaded:
            raise OutOfMemoryError("the device is fuller than the budget knows")

    shelf.models[2].before_load = short_of_memory
    assert shelf.touch(2) == "disk"
    assert shelf.models[2].loads == 2
    assert [event[:3] for event in shelf.events[2:]] == [
        ("evicted", 0, "room"),
        ("evicted", 1, "room"),
        ("loaded", 2, "disk"),
    ]


@pytest.mark.parametrize("error", [OutOfMemoryError("full"), LoadError("the file is gone")])
def test_a_failed_load_leaves_nothing_on_the_device(error: Exception) -> None:
    shelf = Shelf(100, 60)

    def fail() -> None:
        raise error

    shelf.models[0].before_load = fail
    with pytest.raises(type(error)), shelf.cache.use(0):
        pass
    shelf.cache.check()
    assert not shelf.models[0].loaded
    assert shelf.events == []
    shelf.models[0].before_load = None
    assert shelf.touch(0) == "disk"


def test_an_error_while_a_model_is_used_gives_it_back() -> None:
    shelf = Shelf(100, 60, 60)
    with pytest.raises(ZeroDivisionError), shelf.cache.use(0):
        raise ZeroDivisionError
    assert shelf.touch(1) == "disk", "the other could be evicted"


def test_two_threads_that_want_a_cold_model_load_it_once() -> None:
    shelf = Shelf(100, 60)
    loading, go_on = threading.Event(), threading.Event()

    def wait() -> None:
        loading.set()
        assert go_on.wait(30)

    shelf.models[0].before_load = wait
    found: list[str] = []

    def use() -> None:
        with shelf.cache.use(0) as resident:
            found.append(resident.found)

    threads = [threading.Thread(target=use) for _ in range(2)]
    threads[0].start()
    assert loading.wait(30)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert found == ["disk", "warm"]
    assert shelf.models[0].loads == 1


@pytest.mark.parametrize("eviction", EVICTIONS)
@pytest.mark.parametrize("host", [0, 150])
def test_the_books_balance_after_thousands_of_random_steps(eviction: Eviction, host: int) -> None:
    draws = random.Random(3)
    sizes = [draws.randint(0, 70) for _ in range(12)]
    shelf = Shelf(100, *sizes, host=host, eviction=eviction)
    for _ in range(5000):
        service = draws.randrange(len(sizes))
        if draws.random() < 0.1:
            shelf.cache.demote(service, "host" if host and draws.random() < 0.5 else "disk")
        else:
            shelf.touch(service)
        shelf.cache.check()
    loaded = sum(1 for event in shelf.events if event[0] == "loaded")
    evicted = sum(1 for event in shelf.events if event[0] == "evicted")
    assert loaded - evicted == sum(model.loaded for model in shelf.models)


@pytest.mark.parametrize("damage", ["used_bytes", "budget_bytes"])
def test_the_check_notices_books_that_do_not_balance(damage: str) -> None:
    shelf = Shelf(100, 60)
    shelf.touch(0)
    setattr(shelf.cache.device, damage, 7)
    with pytest.raises(AssertionError, match="7"):
        shelf.cache.check()
