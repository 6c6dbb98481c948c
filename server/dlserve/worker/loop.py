"""The way of a job through a worker: receive -> decode -> gather a batch -> run -> reply.

Threads: one receives for each front end, a few decode, one prepares skeletons, one (the device thread) runs batches. The
device is taken by one of them at a time. Normally that is the device thread; a job that costs less to run than to hand
over is run by the receiving thread itself, see `quick`.

Where the device is a CPU and the worker has one core of it, to decode beside a forward only interrupts it. What was sent is then decoded
by the device thread, once it is the turn of the batch; so is an only call anywhere.

Front ends share services, models and the order of arrival. One that goes takes its jobs with it, and a service that no
other knows; the rest goes on.
"""

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
from dlserve.slots import Slots
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
from dlserve.worker.quick import SMALL_BYTES, Quick, is_quick
from dlserve.worker.runner import Runner
from dlserve.worker.service import Service
from dlserve.worker.settings import WorkerSettings
from dlserve.worker.task import Sender, Task, make_task

log = logging.getLogger(__name__)
_SPIN_S = 200e-6
"""After a quick job, if it was alone in the server, look for the next one this long before sleeping: to be woken would cost
more than the job did."""


@dataclass(slots=True, eq=False)
class Connection:
    """The line to one front end."""

    socket: socket.socket
    reader: FrameReader
    writer: FrameWriter
    quick: Quick
    spin_s: float = 0.0
    """How long to look for its next message before sleeping."""

    def end(self) -> None:
        """Hand over all that was said, then hang up: its receiving thread ends."""
        self.writer.flush()
        with contextlib.suppress(OSError):  # the front end was faster
            self.socket.shutdown(socket.SHUT_RDWR)


class Loop:
    """Services, models and jobs. They live as long as a front end is connected; the engines outlive them."""

    def __init__(self, settings: WorkerSettings, engines: Engines) -> None:
        self._max_batch = settings.max_batch
        self._max_images = settings.max_images
        self._max_body_bytes = settings.max_body_bytes
        self._decode_in_turn = settings.decode_in_turn
        self._lock = threading.Lock()
        """Of what changes with front ends and services: the next three."""
        self._connections: tuple[Connection, ...] = ()
        self._services: dict[int, Service] = {}
        self._done = False
        """All is answered, after a `stop`."""
        self._free_at = 0.0
        """When the device thread had run its latest batch; belongs to it."""
        self._cause: Sender | None = None
        """For whose sake the device is at work now; belongs to the thread that has the device."""
        self._device = threading.Thread(target=self._work, name="device")
        self._answers = Answers(self._forget_if_done)
        files = ModelFiles(settings.drop_page_cache)
        self._cache = ModelCache(
            settings.budget_bytes,
            self._tell_moved,
            host_bytes=settings.host_bytes,
            eviction=settings.eviction,
            reading=files.reading,
        )
        self._runner = Runner(self._cache, self._answers, files)
        self._agenda = Agenda(
            settings.max_batch,
            self._cache,
            self._read_and_run,
            self._answers.expire,
            self._all_answered,
            batch_wait_s=settings.batch_wait_s,
        )
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
        self._arrivals = itertools.count()

    def start(self) -> None:
        """Begin to run what comes."""
        self._device.start()

    def serve(
        self, line: socket.socket, hello: Hello, on_ready: Callable[[], None], slots: Slots | None = None
    ) -> None:
        """Say hello to a front end and serve it until it goes, or until `stop` and all that was received is answered.

        `slots`: where it leaves bodies; None: it sends them along.
        """
        connection = self._connection(line, slots)
        with self._lock:
            if self._done:
                return
            self._connections = (*self._connections, connection)
        connection.writer.send(frame(hello))
        on_ready()
        try:
            self._receive(connection)
        except (OSError, ProtocolError) as exc:
            log.warning("the connection to a front end broke: %s", exc)
        finally:
            self._left(connection)

    def _connection(self, line: socket.socket, slots: Slots | None = None) -> Connection:
        quick = Quick(self._agenda, self._run, self._admit, self._max_batch)
        return Connection(line, FrameReader(line, self._max_body_bytes, slots), FrameWriter(line), quick)

    def stop(self) -> None:
        """Answer all that has been sent, then end; from any thread."""
        self._agenda.drain()

    def close(self) -> None:
        """Drop everything; no front end is left."""
        self._agenda.end()
        self._preparer.close()
        self._decoders.close()
        self._device.join()
        self._cache.clear()

    def _left(self, connection: Connection) -> None:
        """A front end is gone: nobody waits for its jobs, and what it alone has defined is not needed."""
        with self._lock:
            self._connections = tuple(other for other in self._connections if other is not connection)
        for task in self._answers.owed_to(connection.writer):
            self._agenda.drop(task)
            self._answers.abandon(task)
        for number in list(self._services):
            self._on_forget(Forget(number), connection)

    # ---- the receiving threads

    def _receive(self, connection: Connection) -> None:
        reader, quick = connection.reader, connection.quick
        while (received := reader.read(connection.spin_s)) is not None:
            connection.spin_s = 0.0
            message, body = received
            if type(message) is Job:
                self._on_job(message, body, connection)
            else:
                quick.run()
                self._on_message(message, connection)
            if quick and (reader.next_size or SMALL_BYTES) >= SMALL_BYTES and quick.run():
                connection.spin_s = _SPIN_S

    def _on_message(self, message: ToWorker, connection: Connection) -> None:
        match message:
            case Define():
                self._on_define(message, connection)
            case Prepare() | Prefetch():
                self._on_prepare(message, connection.writer)
            case Forget():
                self._on_forget(message, connection)
            case Cancel():
                self._on_cancel(message, connection)

    def _on_define(self, message: Define, connection: Connection) -> None:
        with self._lock:
            service = self._services.get(message.service)
            known = service is not None
            if service is None:
                service = self._services[message.service] = Service(message.service, message.spec)
            service.known_by.add(connection.writer)
        if known:
            self._preparer.after(partial(self._tell_standing, service, connection.writer))

    def _on_job(self, job: Job, body: memoryview | None, connection: Connection) -> None:
        received = perf_counter()
        service = self._services.get(job.service)
        if service is None or body is None or not 0 < len(job.items) <= self._max_images:
            objection = self._objection(job, service, body)
            connection.writer.send(frame(Failure(job.id, kind_of(objection), message_of(objection))))
            return
        found = self._cache.temperature(job.service)
        task = make_task(job, connection.writer, service, body, received, next(self._arrivals), found)
        self._answers.open(task)
        if service.model is None or service.unprepared:
            task.keep()
            service.unprepared.add(task)
            self._preparer.submit(service, partial(self._prepared, task))
        elif is_quick(task):
            connection.quick.add(task)
        else:
            connection.quick.run()
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

    def _on_cancel(self, message: Cancel, connection: Connection) -> None:
        task = self._answers.find(connection.writer, message.id)
        if task is not None and self._agenda.drop(task):
            self._answers.cancel(task)

    def _on_prepare(self, message: Prepare | Prefetch, asker: Sender) -> None:
        service = self._services.get(message.service)
        if service is None:
            problem = RequestError(f"service {message.service} is not known to this worker")
            self._tell_unprepared(message, problem, asker)
        else:
            self._preparer.submit(service, partial(self._prepared_ahead, message, service, asker))

    def _on_forget(self, message: Forget, connection: Connection) -> None:
        with self._lock:
            service = self._services.get(message.service)
            if service is None:
                return
            service.known_by.discard(connection.writer)
            if service.known_by:
                return
            del self._services[message.service]
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
        task.service.unprepared.discard(task)

    def _admit(self, task: Task, model: Model) -> None:
        """See to a task's inputs, now that it is known whether its model wants them decoded."""
        task.keep()
        job = task.job
        if task.alone and job.cache not in model.reload_tiers:
            tiers = " or ".join(("warm", *model.reload_tiers))
            problem = f"model {task.service.spec.name!r} can start {tiers} on this device, not {job.cache!r}"
            self._answers.fail(
                task, RequestError(f"{problem}; host (pinned memory) needs a GPU and --host-cache-mb above 0")
            )
        elif model.decodes or any(item.kind not in AS_SENT for item in job.items):
            # Of a lone call nothing can overlap: one thread less to wake, and the image stays in the caches of the other.
            task.unread = (job.lone and len(job.items) == 1) or self._decodes_in_turn(task, model)
            if task.unread:
                self._agenda.add(task)
            else:
                self._decoders.submit(task, model.decodes)
        else:
            ends = list(itertools.accumulate(item.size for item in job.items))
            task.inputs = [task.body[end - item.size : end] for item, end in zip(job.items, ends, strict=True)]
            self._agenda.add(task)

    def _decodes_in_turn(self, task: Task, model: Model) -> bool:
        """Whether the device thread decodes it: there is no core beside it, and nothing to wait for as there is in a file."""
        return self._decode_in_turn and model.uses_cores and not any(item.kind == "path" for item in task.job.items)

    def _prepared_ahead(
        self, message: Prepare | Prefetch, service: Service, asker: Sender, failure: Exception | None
    ) -> None:
        if failure is not None:
            self._tell_unprepared(message, failure, asker)
        elif service.model is not None:
            if isinstance(message, Prefetch):
                self._agenda.add_pastime(partial(self._prefetch, message, service.model, asker))
            elif message.load:
                self._agenda.add_chore(partial(self._load_ahead, message, asker))
            else:
                self._tell_prepared(message, service.model, 0.0, asker)

    def _forget_if_done(self, service: Service) -> None:
        """Drop a deleted service's model once no job of it is left."""
        if not self._answers.owes(service):
            self._agenda.add_chore(partial(self._forget, service))

    # ---- the device thread

    def _work(self) -> None:
        while (work := self._agenda.next()) is not None:
            try:
                work()
            except Exception:
                log.exception("a defect in the device thread; it goes on")
            self._agenda.give_back()
        with self._lock:
            self._done, connections = True, self._connections
        for connection in connections:
            connection.end()

    def _run(self, tasks: Sequence[Task], in_turn_s: float = 0.0, before_s: float = 0.0) -> None:
        self._cause = tasks[0].sender
        self._runner.run(tasks, in_turn_s, before_s)

    def _read_and_run(self, tasks: Sequence[Task]) -> None:
        """A batch of which some was left to this thread to decode.

        What can't be decoded has its answer; of a directory, more is being decoded, and it comes back.
        """
        model = tasks[0].service.model
        assert model is not None
        could_begin = max(self._free_at, *[task.received for task in tasks])
        before_s, in_turn_s, ready = perf_counter() - could_begin, 0.0, []
        for task in tasks:
            if not task.unread:
                ready.append(task)
                continue
            task.unread = False
            began, in_turn = perf_counter(), self._decodes_in_turn(task, model)
            if self._decoders.decode(task, model.decodes, helped=not in_turn):
                ready.append(task)
            if in_turn:
                in_turn_s += perf_counter() - began
        if ready:
            self._run(ready, in_turn_s, min(before_s, in_turn_s))  # what is longer was something else
        self._free_at = perf_counter()

    def _all_answered(self) -> bool:
        return not len(self._answers) and all(connection.reader.idle for connection in self._connections)

    def _load_ahead(self, message: Prepare, asker: Sender) -> None:
        self._cause = asker
        try:
            with self._cache.use(message.service, "ahead") as resident:
                self._tell_prepared(message, resident.model, resident.load_s, asker)
        except Exception as exc:  # noqa: BLE001  the edge of a request: whatever it is, it is answered
            self._tell_unprepared(message, exc, asker)

    def _prefetch(self, message: Prefetch, model: Model, asker: Sender) -> None:
        self._cause = asker
        try:
            self._tell_prepared(message, model, self._cache.prefetch(message.service), asker)
        except Exception as exc:  # noqa: BLE001  the edge of a request: whatever it is, it is answered
            self._tell_unprepared(message, exc, asker)

    def _forget(self, service: Service) -> None:
        self._cause = None
        self._cache.forget(service.number)

    # ---- what the front ends are told

    def _tell_described(self, service: Service, model: Model) -> None:
        encoded = frame(_described(service, model))
        for connection in self._connections:
            connection.writer.send(encoded)

    def _tell_standing(self, service: Service, newcomer: Sender) -> None:
        """What a front end has missed that has defined a service which others know; in the preparing thread."""
        if service.model is not None:
            newcomer.send(frame(_described(service, service.model)))
            self._agenda.add_chore(partial(self._tell_held, service.number, newcomer))  # in order with what moves

    def _tell_held(self, service: int, newcomer: Sender) -> None:
        now = perf_counter()
        for books in (self._cache.host, self._cache.device):
            if service in books:
                size, used = books.size_of(service), books.used_bytes
                newcomer.send(
                    frame(Loaded(service, books.tier, "disk", "standing", now, 0.0, size, used, counts=False))
                )

    def _tell_prepared(self, message: Prepare | Prefetch, model: Model, load_s: float, asker: Sender) -> None:
        asker.send(frame(Prepared(message.id, model.weights_bytes, load_s, model.reload_tiers, None, "")))

    def _tell_unprepared(self, message: Prepare | Prefetch, failure: Exception, asker: Sender) -> None:
        if not is_expected(failure):
            log.error("preparing service %d failed", message.service, exc_info=failure)
        asker.send(frame(Prepared(message.id, 0, 0.0, (), kind_of(failure), message_of(failure))))

    def _tell_moved(self, event: Loaded | Evicted) -> None:
        """Tell every front end where weights are; one of them counts it."""
        connections = self._connections
        counting = next(
            (one for one in connections if one.writer is self._cause), connections[0] if connections else None
        )
        for connection in connections:
            told = event if connection is counting else msgspec.structs.replace(event, counts=False)
            connection.writer.send(frame(told))


def _described(service: Service, model: Model) -> Described:
    settings = msgspec.to_builtins(dict(model.settings), enc_hook=str)
    return Described(service.number, model.weights_bytes, model.reload_tiers, settings)
