"""A run that Locust's workers send: what master and workers tell each other, by Locust's own messages.

    master                                   worker k of n
      stream-run (plan, share k of n)  --->    keeps it until Locust starts its test, then makes its share
                                       <---  stream-ready, or why not
      stream-step (phase, start)       --->    opens the phase
                                       <---  stream-state, twice a second and when the phase is over
      stream-close, stream-end         --->    hands out nothing more
                                       <---  stream-records (where the result folder is on another machine), stream-over

On one machine all share the clock (`time.perf_counter`, by the same boot id) and the result folder: worker k writes
requests-k.jsonl there, and the master reads them, also that of a worker that was lost. A worker elsewhere starts its clock when
the message reaches it, writes into a folder of its own, and sends its records when it is done.
"""

import logging
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, TypeVar

import gevent
import msgspec
from dlclient.errors import ResultError
from dlclient.results import Record, parse_plan, parse_records, share_file

from dlload.bell import Bell
from dlload.crew import Crew, State
from dlload.errors import StreamError, TargetError
from dlload.options import Temperature
from dlload.plan import Plan
from dlload.share import Share, Step

logger = logging.getLogger(__name__)

READY_S = 120.0
"""How long the workers may take to read their images."""
OVER_S = 60.0
"""How long a worker may take to hand over its records."""
STATE_S = 0.5
_CHUNK_BYTES = 1 << 22
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Message(Protocol):
    """What Locust hands to a listener."""

    data: Any
    node_id: str


class Runner(Protocol):
    """What is needed of Locust's runners."""

    def register_message(self, msg_type: str, listener: Callable[..., None], concurrent: bool = False) -> None:
        """Have a listener called with each message of that type."""

    def send_message(self, msg_type: str, data: dict[str, Any] | None = None, client_id: str | None = None) -> None:
        """To the master, or to one worker or all."""


class Post(Protocol):
    """What a worker makes of an assignment: see dlload.post."""

    share: Share

    def begin(self, step: Step) -> None:
        """Open a phase."""

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is over, at most that long; whether it is."""

    def state(self) -> State:
        """How far it is."""

    def live(self) -> bytes:
        """Its live figures so far, as a message."""

    def samples(self) -> tuple[bytes, ...]:
        """Lines for samples.jsonl since the last time."""

    def close(self) -> Path:
        """No more records come; where they are."""


class Assignment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has to do."""

    run: int
    share: int
    of: int
    url: str
    plan: bytes
    """plan.jsonl, compressed."""
    image_sha256: str
    drop_after_s: float | None
    phases: tuple[Temperature, ...]
    folder: str
    machine: str

    @property
    def is_here(self) -> bool:
        """Whether the master is on this machine, so that clock and folder are its own."""
        return bool(self.machine) and self.machine == machine() and Path(self.folder).is_dir()

    def read_plan(self) -> Plan:
        """The plan."""
        header, slots = parse_plan(zlib.decompress(self.plan), Path(self.folder))
        return Plan(header, tuple(slots))


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker says of itself; what does not apply is empty."""

    run: int
    share: int
    refusal: str = ""
    step: int = 0
    state: State | None = None
    records: bytes = b""
    """Lines of its record file, compressed."""
    live: bytes = b""
    """Its live figures since the run began (dlload.live)."""
    samples: tuple[bytes, ...] = ()
    """Lines for samples.jsonl."""


class StepMessage(msgspec.Struct, frozen=True):
    """A phase to open."""

    run: int
    number: int
    step: Step


_Content = TypeVar("_Content", bound=msgspec.Struct)


def pack(content: msgspec.Struct) -> dict[str, Any]:
    """As the data of a message."""
    return {"content": msgspec.msgpack.encode(content)}


def unpack(message: Message, kind: type[_Content]) -> _Content:
    """The content of a message."""
    return msgspec.msgpack.decode(message.data["content"], type=kind)


def machine() -> str:
    """Equal on two processes only if they share a clock: the boot id; "" where there is none."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""


class Desk:
    """The master's end: knows what each worker said last. One for the process's life."""

    def __init__(self, runner: Runner, workers: Callable[[], Mapping[str, bool]]) -> None:
        """`workers`: by Locust's id of each one that is connected, whether it is well."""
        self.runner = runner
        self.workers = workers
        self.changed = Bell()
        self._crew: RemoteCrew | None = None
        for kind in ("stream-ready", "stream-state", "stream-records", "stream-over"):
            runner.register_message(kind, self._listener(kind))

    def crew(self, **assignment: Any) -> "RemoteCrew":
        """Hand out the shares of a new run to the workers that are there. Raises TargetError if there are none."""
        ids = [name for name, is_well in self.workers().items() if is_well]
        if not ids:
            raise TargetError("no Locust worker is connected; start some (locust --worker) or leave --master out")
        self._crew = RemoteCrew(self, ids, **assignment)
        return self._crew

    def _listener(self, kind: str) -> Callable[..., None]:
        def listen(environment: object, msg: Message) -> None:  # noqa: ARG001  Locust's names
            report = unpack(msg, Report)
            if self._crew is not None and self._crew.run == report.run:
                self._crew.heard(kind, msg.node_id, report)
                self.changed.ring()

        return listen


class RemoteCrew(Crew):
    """Locust's workers, as the master sees them."""

    lead_s = 0.5

    def __init__(
        self,
        desk: Desk,
        ids: list[str],
        *,
        run: int,
        folder: Path,
        hears: Callable[[str, bytes], None] = lambda _share, _figures: None,
        **assignment: Any,
    ) -> None:
        """`hears` gets the live figures of each share as they come."""
        self.run = run
        self._hears = hears
        self._samples: list[bytes] = []
        self._desk = desk
        self._ids = ids
        self._folder = folder
        self._ready: set[str] = set()
        self._over: set[str] = set()
        self._refused: dict[str, str] = {}
        self._lost: dict[str, str] = {}
        self._states: dict[str, State] = {}
        self._records: dict[int, list[bytes]] = {}
        self._steps = 0
        self._measured: list[str] = []
        for share, name in enumerate(ids):
            content = Assignment(
                run=run, share=share, of=len(ids), folder=str(folder.resolve()), machine=machine(), **assignment
            )
            desk.runner.send_message("stream-run", pack(content), name)

    @property
    def shares(self) -> int:
        """How many processes send."""
        return len(self._ids)

    @property
    def missing(self) -> list[str]:
        """Shares that were lost on the way, in words."""
        return list(self._lost.values())

    @property
    def samples(self) -> list[bytes]:
        """What the shares have seen of themselves: lines of samples.jsonl."""
        return self._samples

    def ready(self) -> None:
        """Wait until every share is there. Raises TargetError if one cannot be."""
        self._wait_for(lambda: self._ready | self._refused.keys() | self._lost.keys() >= set(self._ids), READY_S)
        if problems := [*self._refused.values(), *self._lost.values()]:
            raise TargetError(f"a Locust worker cannot send: {problems[0]}")
        if len(self._ready) < len(self._ids):
            raise TargetError(
                f"only {len(self._ready)} of {len(self._ids)} Locust workers were ready after {READY_S:g} s"
            )

    def open(self, step: Step) -> None:
        """Start a phase in every share."""
        self._steps += 1
        self._states.clear()
        if step.measured:
            self._measured.append(step.name)
        for name in self._ids:
            self._desk.runner.send_message("stream-step", pack(StepMessage(self.run, self._steps, step)), name)

    def state(self) -> State:
        """Of the phase that was opened last, over all shares."""
        states = [self._states.get(name, State()) for name in self._ids]
        return State(
            taken=sum(state.taken for state in states),
            ended=sum(state.ended for state in states),
            images=sum(state.images for state in states),
            errors=sum(state.errors for state in states),
            over=self._is_over(),
            gave_up=next((state.gave_up for state in states if state.gave_up), ""),
            steady=all(state.steady for state in states),
            exhausted=any(state.exhausted for state in states),
        )

    def wait(self, timeout_s: float) -> bool:
        """Wait until it is over, at most that long; whether it is."""
        return self._wait_for(self._is_over, timeout_s)

    def close(self) -> None:
        """Hand out nothing more in it."""
        self._tell("stream-close")

    def end(self) -> None:
        """There will be no other phase."""
        self._tell("stream-end")

    def collect(self) -> list[list[Record]]:
        """The records of each measured phase, of all shares, in the order in which they ended."""
        if not self._wait_for(lambda: self._over | self._lost.keys() | self._refused.keys() >= set(self._ids), OVER_S):
            for name in set(self._ids) - self._over - self._refused.keys():
                self._lost.setdefault(name, f"{name} did not hand over its records within {OVER_S:g} s")
        found = [record for share in range(self.shares) for record in self._records_of(share)]
        by_phase: dict[str, list[Record]] = {name: [] for name in self._measured}
        for record in sorted(found, key=lambda record: (record.done_s, record.index)):
            by_phase[record.phase].append(record)
        return list(by_phase.values())

    def _records_of(self, share: int) -> list[Record]:
        path = self._folder / share_file(share)
        sent = self._records.get(share)
        try:
            if sent is not None:
                path.write_bytes(b"".join(sent))
            return parse_records(path.read_bytes(), path) if path.exists() else []
        except (OSError, ResultError) as exc:  # those of the other shares are still worth having
            self._lost[self._ids[share]] = f"share {share}: its records cannot be kept or read: {exc}"
            logger.error("%s", self._lost[self._ids[share]])  # noqa: TRY400  a sentence for the user, no bug of ours to trace
            return []

    def heard(self, kind: str, worker: str, report: Report) -> None:
        """Note what a worker said."""
        if worker not in self._ids:
            return
        if report.refusal:
            self._refused[worker] = report.refusal
        if report.live:
            self._hears(worker, report.live)
        self._samples.extend(report.samples)
        if report.state is not None and report.step == self._steps:
            self._states[worker] = report.state
        if kind == "stream-ready":
            self._ready.add(worker)
        elif kind == "stream-records":
            self._records.setdefault(report.share, []).append(zlib.decompress(report.records))
        elif kind == "stream-over":
            self._over.add(worker)

    def _is_over(self) -> bool:
        return all(
            name in self._lost or name in self._over or self._states.get(name, State()).over for name in self._ids
        )

    def _tell(self, kind: str) -> None:
        for name in self._ids:
            if name not in self._lost:
                self._desk.runner.send_message(kind, pack(Report(run=self.run, share=0)), name)

    def _wait_for(self, true: Callable[[], bool], timeout_s: float) -> bool:
        """Wait for something that messages, or their absence, tell."""
        until = perf_counter() + timeout_s
        while True:
            self._look_for_losses()
            if true():
                return True
            left_s = until - perf_counter()
            if left_s <= 0:
                return False
            self._desk.changed.wait(min(left_s, STATE_S))

    def _look_for_losses(self) -> None:
        well = self._desk.workers()
        for share, name in enumerate(self._ids):
            if name not in self._over and name not in self._lost and not well.get(name, False):
                self._lost[name] = f"share {share} ({name}) does not answer any more"
                logger.error("%s", self._lost[name])


def record_chunks(path: Path) -> Iterator[bytes]:
    """A record file in compressed pieces that end with a whole line, except perhaps the last."""
    with path.open("rb") as file:
        rest = b""
        while block := file.read(_CHUNK_BYTES):
            head, newline, rest_of_block = (rest + block).rpartition(b"\n")
            rest = rest_of_block
            if newline:
                yield zlib.compress(head + newline)
        if rest:
            yield zlib.compress(rest)


class Outpost:
    """A worker's end: does what the master says. One for the process's life."""

    def __init__(self, runner: Runner, make: Callable[[Assignment], Post]) -> None:
        """`make` a share of an assignment; raises StreamError where that cannot be."""
        self.post: Post | None = None
        self.changed = Bell()
        """Rings when there is another post."""
        self._running = False
        self._runner = runner
        self._make = make
        self._next: Assignment | None = None
        """For the next start of Locust's."""
        self._assignment: Assignment | None = None
        self._step = 0
        self._reporter: gevent.Greenlet | None = None
        runner.register_message("stream-run", self._on_run)
        runner.register_message("stream-step", self._on_step)
        runner.register_message("stream-close", self._on_close)
        runner.register_message("stream-end", self._on_end)

    def begin(self) -> None:
        """Locust starts its test: make the share that was assigned, and say so."""
        self._running = True
        self._make_post()

    def _make_post(self) -> None:
        self.post = None
        self._assignment, self._next = self._next, None  # a run that the master refused hands out nothing
        if self._assignment is None:
            return
        self._step = 0
        try:
            self.post = self._make(self._assignment)
        except (StreamError, ValueError) as exc:
            logger.error("%s", exc)  # noqa: TRY400  a sentence for the user, no bug of ours to trace
            self._say("stream-ready", refusal=str(exc))
        except Exception as exc:
            logger.exception("a bug of the load tester")
            self._say("stream-ready", refusal=repr(exc))  # else the master would wait for it
        else:
            self.changed.ring()
            self._say("stream-ready")

    def stop(self) -> None:
        """Locust has stopped its test."""
        self._running = False
        self.finish()

    def finish(self) -> None:
        """No sender is left: hand over what there is."""
        post, self.post = self.post, None
        if post is None:
            return
        if self._reporter is not None:
            self._reporter.kill()
        state = post.state()  # the reporter may not have come to say why the phase ended
        path = post.close()
        assert self._assignment is not None
        if not self._assignment.is_here:
            for chunk in record_chunks(path):
                self._say("stream-records", records=chunk)
        self._say("stream-over", step=self._step, state=state, live=post.live(), samples=post.samples())

    def _on_run(self, environment: object, msg: Message) -> None:  # noqa: ARG002  Locust's names
        self._next = unpack(msg, Assignment)
        if self._running:  # another run of the same test, such as a probe
            self._make_post()

    def _on_step(self, environment: object, msg: Message) -> None:  # noqa: ARG002  Locust's names
        asked = unpack(msg, StepMessage)
        if self.post is None or self._assignment is None or asked.run != self._assignment.run:
            return
        self._step = asked.number
        here = self._assignment.is_here
        step = asked.step if here else msgspec.structs.replace(asked.step, at=perf_counter())
        self.post.begin(step)
        if self._reporter is not None:
            self._reporter.kill()
        self._reporter = gevent.spawn(self._report, self.post)

    def _on_close(self, environment: object, msg: Message) -> None:  # noqa: ARG002  Locust's names
        if self.post is not None:
            self.post.share.close()

    def _on_end(self, environment: object, msg: Message) -> None:  # noqa: ARG002  Locust's names
        if self.post is not None:
            self.post.share.end()
            gevent.spawn(self._finish_when_left, self.post)

    def _finish_when_left(self, post: Post) -> None:
        post.share.left.wait()
        if self.post is post:
            self.finish()

    def _report(self, post: Post) -> None:
        """Say how far the phase is, until it is over."""
        while True:
            over = post.wait(STATE_S)
            self._say("stream-state", step=self._step, state=post.state(), live=post.live(), samples=post.samples())
            if over:
                return

    def _say(self, kind: str, **content: Any) -> None:
        assert self._assignment is not None
        report = Report(run=self._assignment.run, share=self._assignment.share, **content)
        self._runner.send_message(kind, pack(report))
