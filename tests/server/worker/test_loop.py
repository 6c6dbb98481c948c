"""What only a moment within the loop shows; the rest is tested through a real worker."""

import socket
import threading
from contextlib import closing

from dlmodels.engines.base import Place
from dlmodels.spec import ModelSpec
from dlserve.messages import Define, Item, Job
from dlserve.worker.engines import Engines
from dlserve.worker.loop import Loop
from dlserve.worker.service import Service
from dlserve.worker.settings import WorkerSettings

SETTINGS = WorkerSettings(
    worker=0,
    generation=0,
    device="cpu",
    threads=1,
    decode_threads=1,
    budget_bytes=0,
    max_batch=8,
    max_pixels=1,
    max_images=1,
    max_body_bytes=1,
    front_sockets=("",),
    data_roots=(),
    engines=(),
    log_format="text",
)


def test_no_job_overtakes_one_that_waits_for_the_skeleton() -> None:
    near, far = socket.socketpair()
    with closing(near), closing(far):
        loop = Loop(SETTINGS, Engines(Place("cpu", 1)))
        line = loop._connection(near)
        loop._on_message(Define(1, ModelSpec("model", "simulated")), line)
        held, reached, done = threading.Event(), threading.Event(), threading.Event()
        prepare = loop._preparer._prepare

        def hold_after_preparing(service: Service) -> None:
            """The moment between the skeleton's being there and the first job's being told."""
            prepare(service)
            reached.set()
            assert held.wait(30)

        loop._preparer._prepare = hold_after_preparing  # type: ignore[method-assign]
        for number in range(3):
            loop._on_job(Job(number, 1, (Item("bytes", 0, "0"),), None, None, 1, 0.0, 0.0), memoryview(b""), line)
            assert reached.wait(30)
        assert loop._services[1].model is not None
        assert len(loop._agenda._batcher) == 0
        held.set()
        loop._preparer.after(done.set)
        assert done.wait(30)
        assert [task.job.id for task in loop._agenda._batcher.take(0.0)] == [0, 1, 2]
        assert not loop._services[1].unprepared
        loop._preparer.close()
        loop._decoders.close()
