"""The model cache against models that only count, with its books checked after every step."""

import random
import threading

import pytest
from dlmodels.errors import LoadError, OutOfMemoryError
from dlserve.messages import Evicted, Loaded
from dlserve.worker.cache import CannotFitError, ModelCache

from tests.server.worker.conftest import Weights


class Shelf:
    """A cache with models 0, 1, 2 ... of the given sizes, and its events in short."""

    def __init__(self, budget: int, *sizes: int) -> None:
        self.events: list[tuple[str, int, str, int]] = []
        self.cache = ModelCache(budget, self.note)
        self.models = [Weights(f"m{number}", size) for number, size in enumerate(sizes)]
        for number, model in enumerate(self.models):
            self.cache.add(number, model)

    def note(self, event: Loaded | Evicted) -> None:
        """Keep an event, and see that the budget holds at that very moment."""
        assert event.used_bytes <= self.cache.budget_bytes
        kind = ("loaded", event.source) if isinstance(event, Loaded) else ("evicted", event.reason)
        self.events.append((kind[0], event.service, kind[1], event.used_bytes))

    def touch(self, service: int) -> str:
        """Use a model for a moment; where it was found."""
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
    assert shelf.cache.used_bytes == 60


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
        with pytest.raises(CannotFitError, match="in use just now hold"), shelf.cache.use(2):
            pass
        assert 0 in shelf.cache
        assert 1 in shelf.cache, "nobody is evicted in vain"
        with pytest.raises(RuntimeError, match="in use"):
            shelf.cache.demote(0)
        shelf.cache.check()
    assert shelf.touch(2) == "disk"


def test_demotion_makes_the_next_use_cold_and_says_why() -> None:
    shelf = Shelf(100, 60)
    shelf.cache.demote(0)
    assert shelf.events == [], "a cold model needs no demotion"
    shelf.touch(0)
    shelf.cache.demote(0)
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
    assert shelf.cache.used_bytes == 0
    assert not shelf.models[0].loaded
    assert shelf.events[1:] == [("evicted", 0, "forgotten", 0)]
    with pytest.raises(KeyError), shelf.cache.use(0):
        pass


def test_clear_leaves_nothing() -> None:
    shelf = Shelf(100, 40, 40)
    shelf.touch(0)
    shelf.touch(1)
    shelf.cache.clear()
    shelf.cache.check()
    assert shelf.cache.used_bytes == 0
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


def test_the_books_balance_after_thousands_of_random_steps() -> None:
    draws = random.Random(3)
    sizes = [draws.randint(0, 70) for _ in range(12)]
    shelf = Shelf(100, *sizes)
    for _ in range(5000):
        service = draws.randrange(len(sizes))
        if draws.random() < 0.1:
            shelf.cache.demote(service)
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
    setattr(shelf.cache, damage, 7)
    with pytest.raises(AssertionError, match="7"):
        shelf.cache.check()
