"""A worker with a real network: the same numbers as without a server, whatever the batch and the temperature."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from dlmodels import images
from dlmodels.engines import create_engine
from dlmodels.repository import scan
from dlmodels.spec import ModelSpec
from dlserve import hardware
from dlserve.messages import Define, Loaded, Reply
from numpy.typing import NDArray

from tests.server.conftest import photograph
from tests.server.worker.conftest import Front, StartWorker, WorkerProcess

PHOTOGRAPHS = [photograph(seed) for seed in range(4)]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def spec(repository: Path) -> ModelSpec:
    """The smallest network of the repository."""
    return next(spec for spec in scan(repository) if spec.name == "squeezenet1_1")


@pytest.fixture(scope="module")
def expected(spec: ModelSpec) -> list[NDArray[np.float32]]:
    """Each photograph's probabilities, computed one by one in this process."""
    engine = create_engine("torch", "cpu", 1)
    engine.start()
    model = engine.prepare(spec)
    model.load()
    return [
        model.run(images.normalize(images.decode(data, spec.input), spec.input)[np.newaxis])[0] for data in PHOTOGRAPHS
    ]


@pytest.fixture(scope="module", params=[False, True], ids=["decoding beside the forward", "decoding in turn"])
def in_turn(request: pytest.FixtureRequest) -> bool:
    """Whether the thread that runs models decodes."""
    return bool(request.param)


@pytest.fixture(scope="module")
def torch_worker(tmp_path_factory: pytest.TempPathFactory, in_turn: bool) -> Iterator[WorkerProcess]:
    """A worker with torch started, which reads files below the folder of its socket."""
    folder = tmp_path_factory.mktemp("torch")
    worker = WorkerProcess(
        folder, engines=["torch"], budget_bytes=1 << 30, decode_in_turn=in_turn, data_roots=[str(folder)]
    )
    worker.start().close()
    yield worker
    worker.end()


@pytest.fixture
def front(torch_worker: WorkerProcess, spec: ModelSpec) -> Iterator[Front]:
    """A front end that has defined the network as service 1."""
    front = torch_worker.accept()
    front.tell(Define(1, spec))
    yield front
    front.close()


def check(reply: Reply, expected: list[NDArray[np.float32]]) -> None:
    """The reply's probabilities are those expected, its best class the best."""
    assert len(reply.predictions) == len(expected)
    for classes, probabilities in zip(reply.predictions, expected, strict=True):
        assert len(classes) == 5
        assert classes[0][0] == probabilities.argmax()
        for index, value in classes:
            assert value == pytest.approx(probabilities[index], abs=TOLERANCE)


def test_single_images_and_a_batch_give_the_numbers_of_the_bare_engine(
    front: Front, expected: list[NDArray[np.float32]]
) -> None:
    for data, one in zip(PHOTOGRAPHS, expected, strict=True):
        check(front.predict(1, data, best=5), [one])
    check(front.predict(1, *PHOTOGRAPHS, best=5), expected)
    jobs = front.send(*[front.call(1, data, best=5) for data in PHOTOGRAPHS])
    for job, one in zip(jobs, expected, strict=True):
        check(front.reply(job), [one])


def test_a_cold_answer_is_the_warm_one_and_loads_every_byte(
    front: Front, spec: ModelSpec, expected: list[NDArray[np.float32]]
) -> None:
    assert front.prepare(1).weights_bytes >= spec.weights_bytes * 0.99
    warm = front.predict(1, PHOTOGRAPHS[0], best=5)
    cold = front.predict(1, PHOTOGRAPHS[0], best=5, cache="disk")
    assert (warm.cache, cold.cache) == ("warm", "disk")
    check(cold, expected[:1])
    assert cold.stages.load > 0
    assert cold.stages.decode > 0
    assert len(front.all(Loaded)) == 2


@pytest.mark.parametrize("lone", [False, True])
def test_what_others_had_to_wait_for_is_told_where_a_batch_is_decoded_in_its_turn(
    front: Front, expected: list[NDArray[np.float32]], in_turn: bool, lone: bool
) -> None:
    front.prepare(1)
    front.lone = lone
    jobs = front.send(*[front.call(1, data, best=5) for data in PHOTOGRAPHS])
    batches: dict[float, list[Reply]] = {}
    for job, one in zip(jobs, expected, strict=True):
        reply = front.reply(job)
        check(reply, [one])
        batches.setdefault(reply.in_turn_s, []).append(reply)
    if not in_turn:
        assert list(batches) == [0.0]
    for in_turn_s, replies in batches.items():
        decodes_s = [reply.stages.decode for reply in replies]
        assert min(decodes_s) > 0
        for reply in replies:
            assert reply.batch_s == in_turn_s + reply.stages.forward
            assert reply.decode_ahead_s == (0 if in_turn else reply.stages.decode)
        assert not in_turn or (sum(decodes_s) < in_turn_s and len(replies) == replies[0].batch_size)


@pytest.mark.parametrize("broken", ["first", "last", "all"])
def test_an_unreadable_image_fails_its_own_call_only(
    front: Front, expected: list[NDArray[np.float32]], broken: str
) -> None:
    front.prepare(1)
    ahead = front.send(front.call(1, *PHOTOGRAPHS))  # so that the others share a batch
    bad = {"first": {0}, "last": {3}, "all": set(range(4))}[broken]
    jobs = front.send(
        *[front.call(1, b"no image" if place in bad else data, best=5) for place, data in enumerate(PHOTOGRAPHS)]
    )
    for place, (job, one) in enumerate(zip(jobs, expected, strict=True)):
        if place in bad:
            assert front.failure(job).failure == "input"
        else:
            check(front.reply(job), [one])
    front.reply(*ahead)
    check(front.predict(1, PHOTOGRAPHS[0], best=5), expected[:1])


@pytest.mark.parametrize("lone", [False, True])
def test_what_is_in_files_is_never_waited_for_in_turn(
    front: Front, torch_worker: WorkerProcess, expected: list[NDArray[np.float32]], lone: bool
) -> None:
    folder = Path(torch_worker.path).parent / f"photographs-{lone}"
    folder.mkdir(exist_ok=True)
    for place, data in enumerate(PHOTOGRAPHS):
        (folder / f"{place}.jpg").write_bytes(data)
    front.lone = lone
    one = front.predict(1, bytes(folder / "2.jpg"), kind="path", best=5)
    check(one, expected[2:3])
    all_ = front.predict(1, bytes(folder), kind="path", best=5)
    check(all_, expected)
    assert all_.batch_size == len(PHOTOGRAPHS)
    assert one.in_turn_s == all_.in_turn_s == 0


def test_a_damaged_weights_file_is_refused_when_prepared(front: Front, spec: ModelSpec, tmp_path: Path) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(spec.folder, folder)
    with (folder / spec.weights).open("r+b") as weights:
        weights.seek(-100, 2)
        weights.write(b"\xff")
    (damaged,) = scan(tmp_path)
    front.tell(Define(2, damaged))
    prepared = front.prepare(2)
    assert prepared.failure is not None
    assert spec.weights in prepared.error
    assert front.refused(2, PHOTOGRAPHS[0]).message == prepared.error
    assert front.predict(1, PHOTOGRAPHS[0]).predictions


@pytest.mark.skipif(bool(hardware.gpus(None)), reason="needs a machine without a GPU")
def test_a_missing_gpu_fails_the_start_and_says_so(start_worker: StartWorker) -> None:
    worker = start_worker(device="cuda:0")
    worker.command(worker.settings)
    event = worker.event()
    assert event["event"] == "failed"
    assert "cuda:0" in event["message"]
    assert worker.exit_code() == 3
