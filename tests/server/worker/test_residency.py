"""Temperatures and the budget, through a real worker."""

import pytest
from dlmodels.spec import ModelSpec
from dlserve.messages import Define, Evicted, Forget, Hello, Loaded, Prepare, Prepared, Reply

from tests.server.worker.conftest import Front

BUDGET = 1000


def test_the_answer_says_where_the_model_was_found(front: Front) -> None:
    front.define(1, bytes=10)
    assert [front.predict(1, b"x").cache for _ in range(3)] == ["disk", "warm", "warm"]
    assert front.moves() == [("loaded", 1, "disk")]


def test_a_disk_request_is_always_found_at_disk_and_each_pays_for_a_load(front: Front) -> None:
    front.define(1, bytes=10, load_s=0.01)
    replies = [front.predict(1, b"x", cache="disk") for _ in range(3)]
    assert [reply.cache for reply in replies] == ["disk"] * 3
    assert all(reply.stages.load >= 0.01 for reply in replies)
    assert front.moves() == [("loaded", 1, "disk")] + [("evicted", 1, "asked"), ("loaded", 1, "disk")] * 2
    assert front.predict(1, b"x", cache="warm").cache == "warm"
    assert front.predict(1, b"x", cache="warm").stages.load == 0


def test_disk_requests_that_wait_together_still_each_run_alone(front: Front) -> None:
    front.define(1, bytes=10, forward_s=0.05)
    front.prepare(1)
    jobs = front.send(*[front.call(1, b"x", cache="disk") for _ in range(5)])
    replies = [front.reply(job) for job in jobs]
    assert [reply.batch_size for reply in replies] == [1] * 5
    assert [reply.cache for reply in replies] == ["disk"] * 5
    assert len(front.all(Loaded)) == 6
    assert [message.id for message in front.all(Reply)] == jobs


def test_a_disk_request_is_no_colder_for_the_others_than_it_must_be(front: Front) -> None:
    front.define(1, bytes=10)
    front.define(2, bytes=10)
    for service in (1, 2):
        front.prepare(service)
    front.predict(1, b"x", cache="disk")
    assert front.predict(2, b"x").cache == "warm"
    assert front.predict(1, b"x").cache == "warm"


def test_a_tier_that_the_device_does_not_have_is_refused_with_a_reason(front: Front) -> None:
    front.define(1)
    for _ in range(2):
        failure = front.refused(1, b"x", cache="host")
        assert failure.failure == "request"
        assert "needs a GPU" in failure.message
    assert front.predict(1, b"x").cache == "disk"


def test_the_least_recently_used_model_leaves_for_another(front: Front) -> None:
    for service in (1, 2, 3):
        front.define(service, bytes=400)
    assert [front.predict(service, b"x").cache for service in (1, 2, 1, 3)] == ["disk", "disk", "warm", "disk"]
    assert [front.predict(service, b"x").cache for service in (1, 3, 2)] == ["warm", "warm", "disk"]
    assert [(message.service, message.reason) for message in front.all(Evicted)] == [(2, "room"), (1, "room")]
    assert max(message.used_bytes for message in front.all(Loaded)) == 800


def test_events_tell_the_bytes_of_each_move(front: Front) -> None:
    front.define(1, bytes=700, load_s=0.02)
    front.define(2, bytes=600)
    front.predict(1, b"x")
    front.predict(2, b"x")
    loaded, evicted = front.all(Loaded), front.all(Evicted)
    assert [(m.service, m.bytes, m.used_bytes) for m in loaded] == [(1, 700, 700), (2, 600, 600)]
    assert [(m.service, m.bytes, m.used_bytes) for m in evicted] == [(1, 700, 0)]
    assert loaded[0].seconds >= 0.02


def test_a_model_above_the_budget_is_refused_and_evicts_nobody(front: Front) -> None:
    front.define(1, bytes=400)
    front.define(2, bytes=BUDGET + 1)
    front.predict(1, b"x")
    failure = front.refused(2, b"x")
    assert failure.failure == "request"
    assert "--cache-mb" in failure.message
    prepared = front.prepare(2)
    assert (prepared.failure, "--cache-mb" in prepared.error) == ("request", True)
    assert front.predict(1, b"x").cache == "warm"


def test_preparing_with_load_makes_the_first_request_warm(front: Front) -> None:
    front.define(1, bytes=123, load_s=0.02)
    prepared = front.prepare(1, load=True)
    assert (prepared.failure, prepared.error, prepared.weights_bytes) == (None, "", 123)
    assert prepared.load_s >= 0.02
    assert prepared.reload_tiers == ("disk",)
    assert front.predict(1, b"x").cache == "warm"


def test_preparing_without_load_leaves_the_weights_where_they_are(front: Front) -> None:
    front.define(1, bytes=123)
    assert front.prepare(1, load=False).load_s == 0
    assert front.moves() == []
    assert front.predict(1, b"x").cache == "disk"


def test_preparing_an_unknown_service_is_refused(front: Front) -> None:
    assert front.prepare(7).failure == "request"


@pytest.mark.parametrize(
    ("spec", "word"),
    [
        pytest.param(ModelSpec("bad", "simulated", parameters={"laod_s": 1.0}), "laod_s", id="misspelt setting"),
        pytest.param(ModelSpec("bad", "no-such-engine"), "no-such-engine", id="unknown engine"),
    ],
)
def test_a_model_that_cannot_be_prepared_says_whose_fault_it_is_to_all_who_ask(
    front: Front, spec: ModelSpec, word: str
) -> None:
    front.tell(Define(1, spec))
    jobs = front.send(*[front.call(1, b"x") for _ in range(3)])
    prepared = front.prepare(1)
    assert (prepared.failure, word in prepared.error) == ("request", True)
    for job in jobs:
        failure = front.failure(job)
        assert (failure.failure, word in failure.message) == ("request", True)
    front.define(2)
    assert front.predict(2, b"x").predictions


@pytest.mark.parametrize("ran_before", [False, True])
def test_receiving_goes_on_while_a_model_loads(front: Front, ran_before: bool) -> None:
    front.define(1, load_s=0.5, bytes=900)
    front.define(2, bytes=900)
    if ran_before:
        for service in (1, 1, 2):
            front.predict(service, b"x")
    (slow,) = front.send(front.call(1, b"x"))
    assert front.refused(99, b"x").failure == "request"
    assert not any(isinstance(message, Reply) and message.id == slow for message in front.received)
    assert front.reply(slow).cache == "disk"


def test_a_service_forgotten_while_it_is_prepared_leaves_nothing(front: Front) -> None:
    for service in range(1, 6):
        question = Prepare(front.next_id(), service, load=True)
        front.define(service, bytes=900)
        front.tell(question, Forget(service))
    front.define(9, bytes=900)
    front.await_(Prepared, lambda answer: answer.id == question.id)
    assert front.predict(9, b"x").cache == "disk"
    assert all(reason != "room" for _, _, reason in front.moves())
    assert len(front.all(Prepared)) == 5


def test_hello_says_what_the_worker_is(front: Front) -> None:
    (hello,) = front.all(Hello)
    assert (hello.worker, hello.generation, hello.device, hello.budget_bytes) == (0, 2, "cpu", BUDGET)
    assert hello.pid > 1
    assert hello.device_name
    assert hello.engines["simulated"] == ""
    assert hello.engines["torch"][0].isdigit(), "known without importing it"
