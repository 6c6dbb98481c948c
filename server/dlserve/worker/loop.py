"""The life of a connection: receive -> decode -> gather a batch -> run -> reply.

Threads: one receives, a few decode, one prepares skeletons, one (the device thread) runs batches. The device is taken
by one of them at a time. Normally that is the device thread; a job that costs less to run than to hand over is run by
the receiving thread itself, see `_inline`.
"""

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable
from functools import partial
from time import perf_counter

import msgspec
from dlmodels.engines.base import Model

from dlserve.messages import (
    AS_SENT,
    Cancel,
    Define,
    Described,
    Evicted,
    Failure,
    Forget,
    Hello,
    Job,
    Loaded,
    Prefetch,
    Prepare,
    Prepared,
    ToWorker,
    frame,
)
from dlserve.worker.agenda import Agenda
from dlserve.worker.answers import Answers
from dlserve.worker.cache import ModelCache
from dlserve.worker.decoding import DecodePool
from dlserve.worker.engines import Engines
from dlserve.worker.failures import InputError, RequestError, is_expected, kind_of, message_of
from dlserve.worker.files import ModelFiles
from dlserve.worker.frames import FrameReader, FrameWriter, ProtocolError
from dlserve.worker.inputs import InputReader
from dlserve.worker.preparing import Preparer
from dlserve.worker.runner import Runner
from dlserve.worker.service import Service
from dlserve.worker.settings import WorkerSettings
from dlserve.worker.task import Task, make_task

log = logging.getLogger(__name__)
_INLINE_FORWARD_S = 100e-6
"""A forward this short is over before another thread would have begun it."""
_SPIN_S = 200e-6
"""After such a one, if it was alone in the server, look for the next job this long before sleeping: to be woken would cost
more than the job did."""


class Loop:
    """One connection's services, models and jobs. They end with it; the engines outlive it."""

    def __init__(self, settings: WorkerSettings, engines: Engines, connection: socket.socket) -> None:
        self._connection = connection
        self._max_images = settings.max_images
        self._reader = FrameReader(connection, settings.max_body_bytes)
        self._writer = FrameWriter(connection)
        self._answers = Answers(self._writer.send, self._forget_if_done)
        files = ModelFiles(settings.drop_page_cache)
        self._cache = ModelCache(
            settings.budget_bytes,
            self._tell,
            host_bytes=settings.host_bytes,
            eviction=settings.eviction,
            reading=files.reading,
        )
        self._runner = Runner(self._cache, self._answers, files)
        self._agenda = Agenda(settings.max_batch, self._cache, self._runner.run, self._all_answered)
        self._preparer = Preparer(engines, self._cache, files, settings.pinned, self._tell_described)
        inputs = InputReader(
            settings.data_roots,
            settings.max_images,
            settings.max_body_bytes,
            drop_page_cache=settings.drop_page_cache,
        )
        self._decoders = DecodePool(
            inputs, settings.decode_threads, settings.max_pixels, self._agenda.add, self._answers.fail
        )
        self._services: dict[int, Service] = {}
        self._arrivals = itertools.count()
        self._spin_s = 0.0

    def run(self, hello: Hello, on_ready: Callable[[], None]) -> None:
        """Say hello and serve until the connection ends, or until `stop` and all that was received is answered."""
        self._writer.send(frame(hello))
        on_ready()
        device = threading.Thread(target=self._work, name="device")
        device.start()
        try:
            self._receive()
        except (OSError, ProtocolError) as exc:
            log.warning("the connection to the front end broke: %s", exc)
        finally:
            self._agenda.end()
            self._answers.abandon()
            self._preparer.close()
            self._decoders.close()
            device.join()
            self._cache.clear()

    def stop(self) -> None:
        """Answer all that has been sent, then end; from any thread."""
        self._agenda.drain()

    # ---- the receiving thread

    def _receive(self) -> None:
        while (received := self._reader.read(self._spin_s)) is not None:
            self._spin_s = 0.0
            message, body = received
            if type(message) is Job:
                self._on_job(message, body)
            else:
                self._on_message(message)

    def _on_message(self, message: ToWorker) -> None:
        match message:
            case Define():
                self._services[message.service] = Service(message.service, message.spec)
            case Prepare() | Prefetch():
                self._on_prepare(message)
            case Forget():
                self._on_forget(message)
            case Cancel():
                self._on_cancel(message)

    def _on_job(self, job: Job, body: memoryview | None) -> None:
        received = perf_counter()
        service = self._services.get(job.service)
        if service is None or body is None or not 0 < len(job.items) <= self._max_images:
            objection = self._objection(job, service, body)
            self._writer.send(frame(Failure(job.id, kind_of(objection), message_of(objection))))
            return
        task = make_task(job, service, body, received, next(self._arrivals), self._cache.temperature(job.service))
        self._answers.open(task)
        if service.model is None or service.unprepared_jobs:
            service.unprepared_jobs.add(job.id)
            self._preparer.submit(service, partial(self._prepared, task))
        elif not self._inline(task):
            self._admit(task, service.model)

    def _objection(self, job: Job, service: Service | None, body: memoryview | None) -> Exception:
        """Why a job is not taken."""
        if service is None:
            return RequestError(f"service {job.service} is not known to this worker: it was deleted")
        if body is None:
            return InputError("the body has too many bytes: send less, or raise --max-body-mb")
        if not job.items:
            return InputError("no input: send at least one image")
        return InputError(
            f"{len(job.items)} images in one call, at most {self._max_images} are allowed:"
            " send fewer, or raise --max-images"
        )

    def _inline(self, task: Task) -> bool:
        """Run a job here and now, if that is cheaper than waking another thread; False if it is not for here.

        Only a single raw input of a model that takes it undecoded, that is on the device and whose latest forward was
        over in no time; and only while nothing else runs or waits, so that no order changes. While it runs nothing is
        received, but for about as long as a hand-over would take; one that turns out slow is the last of its kind.
        """
        service, items = task.service, task.job.items
        if (
            service.forward_s > _INLINE_FORWARD_S
            or task.alone
            or len(items) > 1
            or items[0].kind not in AS_SENT
            or service.model is None
            or service.model.decodes
            or task.found != "warm"
        ):
            return False
        if not self._agenda.take_if_idle():
            return False
        task.inputs = (task.body,)
        self._runner.run((task,))
        self._agenda.give_back()
        self._spin_s = _SPIN_S if task.job.lone else 0.0
        return True

    def _on_cancel(self, message: Cancel) -> None:
        task = self._answers.find(message.id)
        if task is not None and self._agenda.drop(task):
            self._answers.cancel(task)

    def _on_prepare(self, message: Prepare | Prefetch) -> None:
        service = self._services.get(message.service)
        if service is None:
            self._tell_unprepared(message, RequestError(f"service {message.service} is not known to this worker"))
        else:
            self._preparer.submit(service, partial(self._prepared_ahead, message, service))

    def _on_forget(self, message: Forget) -> None:
        service = self._services.pop(message.service, None)
        if service is not None:
            service.forgotten = True
            self._preparer.after(partial(self._forget_if_done, service))

    # ---- the decoding and the preparing threads

    def _prepared(self, task: Task, failure: Exception | None) -> None:
        """The skeleton that a task waited for is there, or will not come."""
        task.prepare_s = perf_counter() - task.received
        if failure is not None:
            self._answers.fail(task, failure)
        elif task.service.model is not None and not task.answered:
            self._admit(task, task.service.model)
        task.service.unprepared_jobs.discard(task.job.id)

    def _admit(self, task: Task, model: Model) -> None:
        """See to a task's inputs, now that it is known whether its model wants them decoded."""
        job = task.job
        if task.alone and job.cache not in model.reload_tiers:
            tiers = " or ".join(("warm", *model.reload_tiers))
            problem = f"model {task.service.spec.name!r} can start {tiers} on this device, not {job.cache!r}"
            self._answers.fail(
                task, RequestError(f"{problem}; host (pinned memory) needs a GPU and --host-cache-mb above 0")
            )
        elif model.decodes or any(item.kind not in AS_SENT for item in job.items):
            self._decoders.submit(task, model.decodes)
        else:
            ends = list(itertools.accumulate(item.size for item in job.items))
            task.inputs = [task.body[end - item.size : end] for item, end in zip(job.items, ends, strict=True)]
            self._agenda.add(task)

    def _prepared_ahead(self, message: Prepare | Prefetch, service: Service, failure: Exception | None) -> None:
        if failure is not None:
            self._tell_unprepared(message, failure)
        elif service.model is not None:
            if isinstance(message, Prefetch):
                self._agenda.add_pastime(partial(self._prefetch, message, service.model))
            elif message.load:
                self._agenda.add_chore(partial(self._load_ahead, message))
            else:
                self._tell_prepared(message, service.model, 0.0)

    def _forget_if_done(self, service: Service) -> None:
        """Drop a deleted service's model once no job of it is left."""
        if not self._answers.owes(service):
            self._agenda.add_chore(partial(self._cache.forget, service.number))

    # ---- the device thread

    def _work(self) -> None:
        while (work := self._agenda.next()) is not None:
            try:
                work()
            except Exception:
                log.exception("a defect in the device thread; it goes on")
            self._agenda.give_back()
        self._writer.flush()
        with contextlib.suppress(OSError):  # the front end was faster
            self._connection.shutdown(socket.SHUT_RDWR)  # ends the receiving thread

    def _all_answered(self) -> bool:
        return not len(self._answers) and self._reader.idle

    def _load_ahead(self, message: Prepare) -> None:
        try:
            with self._cache.use(message.service, "ahead") as resident:
                self._tell_prepared(message, resident.model, resident.load_s)
        except Exception as exc:  # noqa: BLE001  the edge of a request: whatever it is, it is answered
            self._tell_unprepared(message, exc)

    def _prefetch(self, message: Prefetch, model: Model) -> None:
        try:
            self._tell_prepared(message, model, self._cache.prefetch(message.service))
        except Exception as exc:  # noqa: BLE001  the edge of a request: whatever it is, it is answered
            self._tell_unprepared(message, exc)

    # ---- what the front end is told

    def _tell_described(self, service: Service, model: Model) -> None:
        settings = msgspec.to_builtins(dict(model.settings), enc_hook=str)
        self._tell(Described(service.number, model.weights_bytes, model.reload_tiers, settings))

    def _tell_prepared(self, message: Prepare | Prefetch, model: Model, load_s: float) -> None:
        self._writer.send(frame(Prepared(message.id, model.weights_bytes, load_s, model.reload_tiers, None, "")))

    def _tell_unprepared(self, message: Prepare | Prefetch, failure: Exception) -> None:
        if not is_expected(failure):
            log.error("preparing service %d failed", message.service, exc_info=failure)
        self._writer.send(frame(Prepared(message.id, 0, 0.0, (), kind_of(failure), message_of(failure))))

    def _tell(self, event: Described | Loaded | Evicted) -> None:
        self._writer.send(frame(event))
