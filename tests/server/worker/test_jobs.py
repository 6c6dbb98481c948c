"""Jobs through a real worker: batches, order, stages, failures, cancellation."""

import base64
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from dlmodels.images import InputSpec
from dlmodels.spec import ModelSpec
from dlserve.messages import Cancel, Define, Forget, Reply, Stages

from tests.server.worker.conftest import Front, StartWorker

SLOW_S = 0.4
"""A forward that occupies the device while a test does something else."""


def occupy(front: Front, service: int = 99) -> int:
    """Have the device busy for a while with a model of its own; the job that does it."""
    front.define(service, forward_s=SLOW_S)
    front.prepare(service)
    (job_id,) = front.send(front.call(service, b"busy"))
    return job_id


def check_identity(stages: Stages) -> None:
    """The stages are all there is between the frame's arrival and the reply."""
    parts = (stages.decode, stages.queue, stages.demote, stages.load, stages.forward, stages.post)
    assert stages.replied - stages.received == pytest.approx(sum(parts), abs=1e-9)
    assert all(part >= -1e-9 for part in parts), stages


def picture(seed: int, side: int = 64) -> bytes:
    """A PNG of random blocks."""
    blocks = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return cv2.imencode(".png", cv2.resize(blocks, (side, side), interpolation=cv2.INTER_NEAREST))[1].tobytes()


def test_what_waits_for_the_same_model_forms_one_batch_and_answers_as_alone(front: Front) -> None:
    front.define(1, classes=50, bytes=10)
    alone = [front.predict(1, bytes([n]) * 9, best=3) for n in range(6)]
    assert all(reply.batch_size == 1 for reply in alone)
    busy = occupy(front)
    together = front.send(*[front.call(1, bytes([n]) * 9, best=3) for n in range(6)])
    assert [front.reply(job).predictions for job in together] == [reply.predictions for reply in alone]
    assert [front.reply(job).batch_size for job in together] == [6] * 6
    assert front.reply(busy).batch_size == 1
    assert len({reply.predictions for reply in alone}) > 1, "the answers can be told apart"


def test_a_batch_has_at_most_max_batch_images_unless_one_job_has_more(start_worker: StartWorker) -> None:
    front = start_worker(max_batch=4).start()
    front.define(1)
    occupy(front)
    jobs = front.send(*[front.call(1, *[b"x"] * images) for images in (1, 1, 3, 1, 7, 1)])
    assert [front.reply(job).batch_size for job in jobs] == [2, 2, 4, 4, 7, 1]


def test_models_take_turns_by_their_oldest_job(front: Front) -> None:
    for service in (1, 2, 3):
        front.define(service)
        front.prepare(service)
    occupy(front)
    jobs = front.send(*[front.call(service, b"x") for service in (2, 1, 3, 1, 2)])
    for job in jobs:
        front.reply(job)
    order = [jobs.index(message.id) for message in front.all(Reply) if message.id in jobs]
    assert order == [0, 4, 1, 3, 2]


def test_jobs_of_one_model_with_different_inputs_do_not_share_a_batch(front: Front) -> None:
    front.define(1, decode=True)
    occupy(front)
    small, large = InputSpec(width=8, height=8), InputSpec(width=16, height=16)
    jobs = front.send(*[front.call(1, picture(n), spec=spec) for n, spec in enumerate((small, large, small, None))])
    assert [front.reply(job).batch_size for job in jobs] == [2, 1, 2, 1]


def test_images_of_a_call_are_answered_in_order(front: Front) -> None:
    front.define(1, decode=True, classes=500)
    pictures = [picture(seed) for seed in range(12)]
    together = front.predict(1, *pictures, best=2)
    assert together.batch_size == 12
    assert together.predictions == tuple(front.predict(1, one, best=2).predictions[0] for one in pictures)
    assert len(set(together.predictions)) > 6


@pytest.mark.parametrize("lone", [False, True])
@pytest.mark.parametrize("payload", ["bytes", "base64", "path"])
def test_every_way_in_gives_the_same_answer(
    start_worker: StartWorker, tmp_path: Path, payload: str, lone: bool
) -> None:
    front = start_worker(data_roots=[str(tmp_path)]).start()
    front.lone = lone
    file = tmp_path / "image.png"
    file.write_bytes(picture(5))
    for service, decode in ((1, True), (2, False)):
        front.define(service, decode=decode)
        expected = front.predict(service, picture(5), best=4)
        if payload == "base64":
            reply = front.predict(service, base64.b64encode(picture(5)), kind="base64", best=4)
        elif payload == "path":
            reply = front.predict(service, bytes(file), kind="path", best=4)
        else:
            reply = front.predict(service, picture(5), best=4)
        assert reply.predictions == expected.predictions
        assert reply.uris is None
        assert (reply.stages.decode > 0) == (decode or payload != "bytes")


@pytest.mark.parametrize("lone", [False, True])
def test_a_directory_becomes_one_prediction_per_file_with_its_own_uri(
    start_worker: StartWorker, tmp_path: Path, lone: bool
) -> None:
    front = start_worker(data_roots=[str(tmp_path)]).start()
    front.lone = lone
    front.define(1, decode=True)
    folder = tmp_path / "set"
    folder.mkdir()
    for seed in range(3):
        (folder / f"{seed}.png").write_bytes(picture(seed))
    reply = front.predict(1, bytes(folder), kind="path")
    assert reply.uris == tuple(f"{folder}/{seed}.png" for seed in range(3))
    assert reply.predictions == tuple(front.predict(1, picture(seed)).predictions[0] for seed in range(3))
    (folder / "notes.txt").write_text("no image")
    assert f"{folder}/notes.txt" in front.refused(1, bytes(folder), kind="path").message


def test_a_path_outside_the_data_roots_is_refused_as_an_input(start_worker: StartWorker, tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "secret.png").write_bytes(picture(1))
    (tmp_path / "root" / "link.png").symlink_to(tmp_path / "secret.png")
    front = start_worker(data_roots=[str(tmp_path / "root")]).start()
    for service, decode in ((1, True), (2, False)):
        front.define(service, decode=decode)
        for path in (tmp_path / "secret.png", tmp_path / "root/../secret.png", tmp_path / "root/link.png"):
            failure = front.refused(service, bytes(path), kind="path")
            assert failure.failure == "input"
            assert "--data-root" in failure.message


def test_stages_add_up_whatever_the_job_paid_for(front: Front) -> None:
    front.define(1, decode=True, load_s=0.05, forward_s=0.02, bytes=10)
    cold = front.predict(1, picture(1))
    warm = front.predict(1, picture(1), picture(2))
    again = front.predict(1, picture(1), cache="disk")
    occupy(front)
    waited = [front.reply(job) for job in front.send(*[front.call(1, picture(n)) for n in range(4)])]
    for reply in (cold, warm, again, *waited):
        check_identity(reply.stages)
        assert reply.stages.forward >= 0.02
        assert reply.stages.decode > 0
    assert cold.stages.load >= 0.05
    assert again.stages.load >= 0.05
    assert again.stages.demote > 0
    assert warm.stages.load == warm.stages.demote == 0
    assert all(reply.stages.load == 0 for reply in waited)
    assert waited[0].stages.queue > 0


def test_a_job_that_came_before_its_model_was_prepared_pays_for_that_as_load(front: Front) -> None:
    front.define(1)
    reply = front.predict(1, b"x")
    check_identity(reply.stages)
    assert reply.stages.load > 0
    assert reply.cache == "disk"


def test_a_broken_image_fails_its_own_job_only(front: Front) -> None:
    front.define(1, decode=True)
    occupy(front)
    good, bad, other = front.send(
        front.call(1, picture(1)), front.call(1, picture(2), b"no image at all"), front.call(1, picture(3))
    )
    failure = front.failure(bad)
    assert failure.failure == "input"
    assert failure.message.startswith("1: ")
    assert front.reply(good).batch_size == front.reply(other).batch_size == 2


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a" + bytes(40), picture(1)[:-20], picture(1, 700)],
    ids=["empty", "gif", "truncated", "too large"],
)
@pytest.mark.parametrize("lone", [False, True])
def test_an_unusable_image_is_an_input_failure_that_names_it(front: Front, data: bytes, lone: bool) -> None:
    front.lone = lone
    front.define(1, decode=True)
    for images in ((data,), (picture(1), data)):
        failure = front.refused(1, *images)
        assert failure.failure == "input"
        assert failure.message.startswith(f"{len(images) - 1}: ")
    assert front.predict(1, picture(1)).predictions


def test_bad_base64_is_an_input_failure_even_where_nothing_is_decoded(front: Front) -> None:
    front.define(1)
    assert front.refused(1, b"YW\nI=", kind="base64").failure == "input"


def test_a_job_of_an_unknown_service_is_refused(front: Front) -> None:
    failure = front.refused(5, b"x")
    assert failure.failure == "request"
    assert "5" in failure.message


def test_calls_beyond_the_limits_are_refused_and_the_next_is_served(start_worker: StartWorker) -> None:
    front = start_worker(max_images=3, max_body_bytes=1000).start()
    front.define(1)
    many = front.refused(1, *[b"x"] * 4)
    assert (many.failure, "--max-images" in many.message) == ("input", True)
    large = front.refused(1, bytes(1001))
    assert (large.failure, "--max-body-mb" in large.message) == ("input", True)
    nothing = front.refused(1)
    assert nothing.failure == "input"
    assert front.predict(1, bytes(1000)).predictions


def test_a_bad_input_specification_is_a_request_failure(front: Front) -> None:
    front.define(1, decode=True)
    failure = front.refused(1, picture(1), spec=InputSpec(std=(0.0,)))
    assert failure.failure == "request"
    assert "std" in failure.message


def test_out_of_memory_splits_the_batch_and_says_so_in_the_log(start_worker: StartWorker) -> None:
    worker = start_worker()
    front = worker.start()
    front.define(1, oom_above=2)
    front.define(2)
    inputs = [bytes([n]) for n in range(5)]
    split, whole = front.predict(1, *inputs, best=2), front.predict(2, *inputs, best=2)
    assert [len(classes) for classes in split.predictions] == [2] * 5
    assert split.batch_size == 2
    assert whole.batch_size == 5
    assert split.predictions == tuple(front.predict(1, one, best=2).predictions[0] for one in inputs)
    worker.command({"command": "stop"})
    assert worker.exit_code() == 0
    assert any("at most 2 images at once" in line for line in worker.log)


def test_no_memory_for_a_single_image_is_a_memory_failure_and_others_go_on(front: Front) -> None:
    front.define(1, oom_above=0)
    front.define(2)
    assert front.refused(1, b"a", b"b").failure == "memory"
    assert front.predict(2, b"a").predictions


def test_best_and_threshold_are_each_job_s_own_within_a_batch(front: Front) -> None:
    front.define(1, classes=10)
    occupy(front)
    all_, two, certain = front.send(
        front.call(1, b"x", best=-1), front.call(1, b"x", best=2), front.call(1, b"x", best=5, threshold=0.6)
    )
    everything = front.reply(all_).predictions[0]
    assert len(everything) == 10
    assert [value for _, value in everything] == sorted((value for _, value in everything), reverse=True)
    assert front.reply(two).predictions[0] == everything[:2]
    assert front.reply(certain).predictions[0] == everything[:1]
    assert front.reply(all_).batch_size == 3


def test_a_job_cancelled_before_it_ran_is_answered_so_and_does_not_run(front: Front) -> None:
    front.define(1)
    front.prepare(1)
    busy = occupy(front)
    first, second = front.send(front.call(1, b"a"), front.call(1, b"b"))
    front.tell(Cancel(first), Cancel(12345))
    assert front.failure(first).failure == "cancelled"
    assert front.reply(second).batch_size == 1
    front.tell(Cancel(busy), Cancel(second))
    assert front.predict(1, b"c").predictions
    assert len(front.all(Reply)) == 3, "what was answered is not answered again"


@pytest.mark.parametrize("lone", [False, True])
def test_a_cancel_that_races_with_decoding_leaves_exactly_one_answer(front: Front, lone: bool) -> None:
    front.lone = lone
    front.define(1, decode=True)
    (job_id,) = front.send(front.call(1, *[picture(n, 512) for n in range(1 if lone else 30)]))
    front.tell(Cancel(job_id))
    answer = front.answer(job_id)
    assert isinstance(answer, Reply) or answer.failure == "cancelled"
    assert front.predict(1, picture(1)).predictions
    assert sum(getattr(message, "id", None) == job_id for message in front.received) == 1


def test_hundreds_of_jobs_of_several_models_are_each_answered_once_and_rightly(front: Front) -> None:
    for service in range(4):
        front.define(service, classes=97, seed=service, decode=service == 3, bytes=300)
    payloads = [picture(n) for n in range(10)]
    expected = {(s, n): front.predict(s, payloads[n]).predictions for s in range(4) for n in range(10)}
    draws = np.random.default_rng(1)
    wanted: dict[int, tuple[int, int]] = {}
    for _ in range(20):
        pairs = [(int(draws.integers(4)), int(draws.integers(10))) for _ in range(20)]
        ids = front.send(*[front.call(service, payloads[n]) for service, n in pairs])
        wanted |= dict(zip(ids, pairs, strict=True))
    for job_id, pair in wanted.items():
        assert front.reply(job_id).predictions == expected[pair]
    ids = [message.id for message in front.all(Reply)]
    assert len(ids) == len(set(ids))
    for reply in front.all(Reply):
        check_identity(reply.stages)
    used = [message.used_bytes for message in front.received if hasattr(message, "used_bytes")]
    assert max(used) <= 1000


def test_answers_of_one_model_come_in_order_of_arrival_also_of_what_came_before_it_was_prepared(front: Front) -> None:
    for service in range(40):
        front.define(service)
        jobs = front.send(*[front.call(service, b"x") for _ in range(20)])
        for job in jobs:
            front.reply(job)
    order = [message.id for message in front.all(Reply)]
    assert len(order) == 800
    assert all(before < after for before, after in pairwise(order))


def test_a_deleted_service_answers_what_came_before_and_gives_its_memory_back(front: Front) -> None:
    front.define(1, bytes=700)
    front.prepare(1)
    occupy(front)
    (before,) = front.send(front.call(1, b"x"))
    front.tell(Forget(1))
    after = front.refused(1, b"x")
    assert after.failure == "request"
    assert front.reply(before).predictions
    front.tell(Define(2, ModelSpec("model1", "simulated", parameters={"bytes": 700})))
    assert front.predict(2, b"x").cache == "disk"
    assert front.moves()[-2:] == [("evicted", 1, "forgotten"), ("loaded", 2, "disk")]
