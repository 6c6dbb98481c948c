"""dlload.distribution: master and workers, whose messages pass between them in this process as Locust would pass them."""

import logging
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import gevent
import msgspec
import pytest
from dlclient.results import Record, Seeds, parse_records, share_file
from dlload import distribution
from dlload.crew import State, share_state
from dlload.distribution import Assignment, Desk, Outpost, RemoteCrew, record_chunks
from dlload.errors import ImagesError, RecordError, TargetError
from dlload.options import Temperature
from dlload.plan import Closed, Plan, draw
from dlload.recorder import Recorder, open_recorder
from dlload.share import Share, Step
from gevent.event import Event

from tests.loadgen.quick_answers import quick_share

PLAN = draw(seeds=Seeds.all(1), load=Closed(11), services=("a", "b"), mix="uniform", images=("x.jpg",), batch_size=1)
MASTER = "master"


class Letter(msgspec.Struct):
    """A message as Locust has it. (Importing Locust would change the sockets of this process.)"""

    type: str
    data: dict[str, Any] | None
    node_id: str


@dataclass
class Wire:
    """Carries messages in the order in which they were sent, packed by msgpack as on Locust's sockets."""

    runners: dict[str, "FakeRunner"] = field(default_factory=dict)
    well: dict[str, bool] = field(default_factory=dict)
    """Workers as the master sees them."""

    def runner(self, name: str) -> "FakeRunner":
        self.runners[name] = FakeRunner(self, name)
        if name != MASTER:
            self.well[name] = True
        return self.runners[name]

    def carry(self, message: bytes, receiver: str) -> None:
        found = msgspec.msgpack.decode(message, type=Letter)
        if receiver in self.runners:
            self.runners[receiver].listeners[found.type](environment=None, msg=found)

    def lose(self, name: str) -> None:
        """As after kill -9: it says nothing any more, and hears nothing."""
        self.well[name] = False
        del self.runners[name]


@dataclass
class FakeRunner:
    """What dlload needs of Locust's runners."""

    wire: Wire
    name: str
    listeners: dict[str, Callable[..., None]] = field(default_factory=dict)

    def register_message(self, msg_type: str, listener: Callable[..., None], concurrent: bool = False) -> None:
        assert not concurrent
        self.listeners[msg_type] = listener

    def send_message(self, msg_type: str, data: dict[str, Any] | None = None, client_id: str | None = None) -> None:
        if self.wire.runners.get(self.name) is self:
            message = msgspec.msgpack.encode(Letter(msg_type, data, self.name))
            gevent.spawn(self.wire.carry, message, client_id or MASTER)


class FakePost:
    """A share whose requests are answered at once, recorded as a worker's are."""

    def __init__(self, assignment: Assignment, folder: Path, full_after: int | None, allowed: Event | None) -> None:
        self._recorder: Recorder = open_recorder(folder, share_file(assignment.share))
        self._left = full_after
        self.share: Share = quick_share(
            assignment.read_plan().slots,
            self._write,
            number=assignment.share,
            of=assignment.of,
            drop_after_s=assignment.drop_after_s,
            allowed=allowed,
        )
        self.senders = [gevent.spawn(self.share.work, self.share.sender(lambda _: None)) for _ in range(2)]

    def _write(self, record: Record) -> None:
        if self._left is not None:
            if self._left == 0:
                self.share.fail("no space")
                raise RecordError("no space")
            self._left -= 1
        self._recorder.write(record)

    def begin(self, step: Step) -> None:
        self.share.begin(step)

    def wait(self, timeout_s: float) -> bool:
        phase = self.share.current
        return phase is None or phase.ended.wait(timeout_s)

    def state(self) -> State:
        return share_state(self.share)

    def live(self) -> bytes:
        return b"live"

    def samples(self) -> tuple[bytes, ...]:
        return (b"sample",)

    def close(self) -> Path:
        self.share.end()
        self.share.dispose()
        self._recorder.close()
        return self._recorder.path


@dataclass
class Company:
    """A master and its workers."""

    folder: Path
    wire: Wire = field(default_factory=Wire)
    outposts: dict[str, Outpost] = field(default_factory=dict)
    heard: list[tuple[str, bytes]] = field(default_factory=list)
    refuses: dict[str, Exception] = field(default_factory=dict)
    full_after: dict[str, int] = field(default_factory=dict)
    allowed: dict[str, Event] = field(default_factory=dict)
    """Workers that wait for it with every request."""
    elsewhere: Path | None = None
    """Where the workers' own folders are, if the master is on another machine."""

    def __post_init__(self) -> None:
        self.desk = Desk(self.wire.runner(MASTER), lambda: dict(self.wire.well))

    def hire(self, *names: str) -> None:
        for name in names:
            self.outposts[name] = Outpost(self.wire.runner(name), partial(self._make, name))

    def _make(self, name: str, assignment: Assignment) -> FakePost:
        if name in self.refuses:
            raise self.refuses[name]
        folder = Path(assignment.folder)
        if not assignment.is_here:
            assert self.elsewhere is not None
            folder = self.elsewhere / name
            folder.mkdir(parents=True)
        return FakePost(assignment, folder, self.full_after.get(name), self.allowed.get(name))

    def crew(self, run: int = 1, plan: Plan = PLAN) -> RemoteCrew:
        """Assigns the shares, then starts Locust's test in the workers."""
        crew = self.desk.crew(
            run=run,
            folder=self.folder,
            url="http://127.0.0.1:1",
            plan=zlib.compress(plan.encode()),
            image_sha256="",
            drop_after_s=None,
            phases=("warm", "disk"),
            hears=lambda share, figures: self.heard.append((share, figures)),
        )
        gevent.idle()
        for outpost in self.outposts.values():
            outpost.begin()
        return crew

    def send_home(self, *names: str) -> None:
        """Locust ends the users of these workers."""
        for name in names:
            post = self.outposts[name].post
            assert isinstance(post, FakePost)
            gevent.killall(post.senders)

    def stop(self) -> None:
        """Locust stops its test."""
        for outpost in self.outposts.values():
            outpost.stop()


@pytest.fixture
def company(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Company]:
    monkeypatch.setattr(distribution, "STATE_S", 0.01)
    folder = tmp_path / "out"
    folder.mkdir()
    made = Company(folder)
    yield made
    made.stop()


def measure(crew: RemoteCrew, *names: Temperature) -> None:
    for name in names:
        crew.open(Step(name, measured=True, at=perf_counter()))
        assert crew.wait(60)


def finish(crew: RemoteCrew) -> list[list[Record]]:
    crew.end()
    return crew.collect()


def test_shares_are_handed_out_sent_and_come_back_as_one_result(company: Company) -> None:
    company.hire("one", "two", "three")
    crew = company.crew()
    assert crew.shares == 3
    crew.ready()
    measure(crew, "warm", "disk")
    state = crew.state()
    assert (state.taken, state.ended, state.images, state.errors, state.over) == (11, 11, 11, 0, True)
    assert state.gave_up == ""
    warm, disk = finish(crew)
    for records, name in ((warm, "warm"), (disk, "disk")):
        assert {record.phase for record in records} == {name}
        assert sorted(record.index for record in records) == list(range(11))
        assert all(record.share == record.index % 3 for record in records)
        assert [record.done_s for record in records] == sorted(record.done_s for record in records)
    assert list(crew.missing) == []
    assert set(company.heard) == {("one", b"live"), ("two", b"live"), ("three", b"live")}
    assert set(crew.samples) == {b"sample"}
    assert sorted(path.name for path in company.folder.iterdir()) == [share_file(share) for share in range(3)]


def test_a_warm_up_is_shared_and_recorded_nowhere(company: Company) -> None:
    company.hire("one", "two")
    crew = company.crew()
    crew.ready()
    crew.open(Step("warm", measured=False, at=perf_counter(), most_requests=8))
    assert crew.wait(60)
    assert crew.state().ended == 8
    measure(crew, "warm")
    assert [len(records) for records in finish(crew)] == [11]


def test_a_warm_up_without_an_end_is_closed_in_every_share(company: Company) -> None:
    company.hire("one", "two")
    crew = company.crew()
    crew.ready()
    crew.open(Step("warm", measured=False, at=perf_counter()))
    while crew.state().ended < 20:
        assert not crew.wait(0.01)
    crew.close()
    assert crew.wait(60)
    assert finish(crew) == []


def test_without_a_worker_there_is_no_crew(company: Company) -> None:
    with pytest.raises(TargetError, match="no Locust worker is connected; start some"):
        company.crew()
    company.hire("one")
    company.wire.lose("one")
    with pytest.raises(TargetError, match="no Locust worker is connected"):
        company.crew()


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (ImagesError("--images x: other images"), "a Locust worker cannot send: --images x: other images"),
        (ValueError("no number"), "a Locust worker cannot send: no number"),
        (ZeroDivisionError("unforeseen"), "a Locust worker cannot send: ZeroDivisionError"),
    ],
)
def test_a_worker_that_cannot_send_is_told_of_and_not_waited_for(
    company: Company, problem: Exception, says: str
) -> None:
    company.hire("one", "two")
    company.refuses["two"] = problem
    crew = company.crew()
    with pytest.raises(TargetError, match=says):
        crew.ready()
    began = perf_counter()
    assert finish(crew) == []
    assert perf_counter() - began < distribution.OVER_S


def test_a_worker_that_is_lost_before_it_was_ready_is_told_of(company: Company) -> None:
    company.hire("one", "two")
    crew = company.crew()
    company.wire.lose("two")
    with pytest.raises(TargetError, match=r"cannot send: share 1 .* does not answer any more"):
        crew.ready()


def test_a_worker_that_never_gets_ready_is_given_up(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "READY_S", 0.05)
    company.hire("one", "two")
    outpost = company.outposts.pop("two")  # Locust does not start its test there
    crew = company.crew()
    with pytest.raises(TargetError, match=r"only 1 of 2 Locust workers were ready after 0\.05 s"):
        crew.ready()
    assert outpost.post is None


def test_a_lost_worker_ends_its_phase_and_its_records_up_to_then_are_kept(
    company: Company, caplog: pytest.LogCaptureFixture
) -> None:
    company.hire("one", "two")
    company.allowed["two"] = Event()
    crew = company.crew()
    crew.ready()
    crew.open(Step("warm", measured=True, at=perf_counter()))
    while crew.state().ended < 6:  # all of share 0
        assert not crew.wait(0.01)
    torn = company.folder / share_file(1)
    with caplog.at_level(logging.ERROR):
        company.wire.lose("two")
        assert crew.wait(60)
    assert list(crew.missing) == ["share 1 (two) does not answer any more"]
    assert "share 1 (two) does not answer any more" in caplog.text
    whole = (company.folder / share_file(0)).read_bytes().splitlines(keepends=True)[0]
    torn.write_bytes(whole.replace(b'"index":0', b'"index":1') + whole[:25])  # killed within a line
    (records,) = finish(crew)
    assert sorted(record.index for record in records) == [0, 1, 2, 4, 6, 8, 10]
    company.send_home("two")


def test_a_worker_that_does_not_hand_over_in_time_is_missing(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "OVER_S", 0.05)
    company.hire("one", "two")
    company.allowed["two"] = Event()
    crew = company.crew()
    crew.ready()
    crew.open(Step("warm", measured=True, at=perf_counter()))
    while crew.state().taken < 8:  # all of share 0, and one for each sender of share 1
        crew.wait(0.01)
    (records,) = finish(crew)
    assert list(crew.missing) == ["two did not hand over its records within 0.05 s"]
    assert {record.share for record in records} <= {0}
    company.send_home("two")


def test_a_share_that_cannot_write_tells_the_master_why(company: Company) -> None:
    company.hire("one", "two")
    company.full_after["two"] = 2
    crew = company.crew()
    crew.ready()
    crew.open(Step("warm", measured=True, at=perf_counter()))
    assert crew.wait(60)
    assert crew.state().gave_up == "no space"
    (records,) = finish(crew)
    assert sorted(record.index for record in records if record.share == 1) == [1, 3]


def test_records_that_cannot_be_read_cost_only_their_own_share(company: Company) -> None:
    company.hire("one", "two")
    crew = company.crew()
    crew.ready()
    measure(crew, "warm")
    crew.end()
    gevent.idle()
    path = company.folder / share_file(1)
    path.write_bytes(b"not a record\n" + path.read_bytes())
    (records,) = crew.collect()
    assert {record.share for record in records} == {0}
    (missing,) = crew.missing
    assert missing.startswith("share 1: its records cannot be kept or read: ")
    assert f"{path}:1: " in missing


@pytest.fixture
def far_away(company: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Company:
    """The master says that it is on another machine."""
    company.elsewhere = tmp_path / "elsewhere"
    monkeypatch.setattr(distribution, "machine", lambda: "here")
    real = distribution.unpack

    def unpacked(message: Any, kind: type[Any]) -> Any:
        found = real(message, kind)
        if isinstance(found, Assignment):
            return type(found)(
                **{name: getattr(found, name) for name in found.__struct_fields__} | {"machine": "there"}
            )
        return found

    monkeypatch.setattr(distribution, "unpack", unpacked)
    return company


def test_workers_on_another_machine_start_their_own_clock_and_send_their_records(
    far_away: Company, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distribution, "_CHUNK_BYTES", 300)  # less than two records
    far_away.hire("one", "two")
    crew = far_away.crew()
    crew.ready()
    crew.open(Step("warm", measured=True, at=perf_counter() + 1e6))  # the master's clock means nothing there
    assert crew.wait(60)
    (records,) = finish(crew)
    assert sorted(record.index for record in records) == list(range(11))
    for share, name in enumerate(("one", "two")):
        own = tmp_path / "elsewhere" / name / share_file(share)
        assert (far_away.folder / share_file(share)).read_bytes() == own.read_bytes()


def test_a_machine_is_known_by_its_boot(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "boot").write_text("abc\n")
    monkeypatch.setattr(distribution, "_BOOT_ID", tmp_path / "boot")
    assert distribution.machine() == "abc"
    monkeypatch.setattr(distribution, "_BOOT_ID", tmp_path / "nowhere")
    assert distribution.machine() == ""


def assignment(folder: Path, machine: str) -> Assignment:
    return Assignment(
        run=1,
        share=0,
        of=1,
        url="",
        plan=b"",
        image_sha256="",
        drop_after_s=None,
        phases=("warm",),
        folder=str(folder),
        machine=machine,
    )


def test_a_worker_is_here_only_if_it_shares_clock_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distribution, "machine", lambda: "boot")
    assert assignment(tmp_path, "boot").is_here
    assert not assignment(tmp_path, "another boot").is_here
    assert not assignment(tmp_path / "in-another-container", "boot").is_here
    monkeypatch.setattr(distribution, "machine", lambda: "")
    assert not assignment(tmp_path, "").is_here, "two machines that do not know theirs are not the same"


def test_a_run_after_another_is_not_disturbed_by_what_is_said_of_the_first(company: Company) -> None:
    company.hire("one", "two")
    first = company.crew(run=1)
    first.ready()
    measure(first, "warm")
    assert len(finish(first)[0]) == 11
    company.stop()
    company.folder = company.folder.with_name("out-2")
    company.folder.mkdir()
    second = company.crew(run=2)
    company.desk.runner.send_message("stream-over", distribution.pack(distribution.Report(run=1, share=0)), MASTER)
    second.ready()
    measure(second, "warm", "disk")
    assert [len(records) for records in finish(second)] == [11, 11]


def test_a_run_may_follow_within_one_test_of_locusts(company: Company) -> None:
    company.hire("one", "two")
    crew = company.crew(run=1)
    for run in (2, 3):
        crew.ready()
        measure(crew, "warm")
        assert len(finish(crew)[0]) == 11
        company.folder = company.folder.with_name(f"out-{run}")
        company.folder.mkdir()
        crew = company.desk.crew(
            run=run,
            folder=company.folder,
            url="",
            plan=zlib.compress(PLAN.encode()),
            image_sha256="",
            drop_after_s=None,
            phases=("warm",),
        )
    crew.ready()
    measure(crew, "warm")
    assert len(finish(crew)[0]) == 11


def test_a_worker_does_not_begin_an_old_assignment_again(company: Company) -> None:
    company.hire("one")
    crew = company.crew()
    crew.ready()
    assert company.outposts["one"].post is not None
    company.stop()
    company.outposts["one"].begin()  # Locust starts a test of which the master refused to make a run
    assert company.outposts["one"].post is None


def test_a_stop_of_locust_in_the_midst_hands_over_what_there_is(company: Company) -> None:
    company.hire("one", "two")
    company.allowed |= {"one": Event(), "two": Event()}
    crew = company.crew()
    crew.ready()
    crew.open(Step("warm", measured=True, at=perf_counter()))
    while crew.state().taken < 4:
        crew.wait(0.01)
    crew.end()
    company.send_home("one", "two")
    company.stop()
    (records,) = crew.collect()
    assert sorted(record.index for record in records) == [0, 1, 2, 3]
    assert {record.error.partition(":")[0] for record in records} == {"abandoned"}
    assert list(crew.missing) == []


def test_what_strangers_say_is_not_heard(company: Company) -> None:
    company.hire("one")
    crew = company.crew()
    crew.ready()
    stranger = company.wire.runner("stranger")
    stranger.send_message("stream-over", distribution.pack(distribution.Report(run=1, share=0, refusal="no")))
    gevent.idle()
    measure(crew, "warm")
    assert len(finish(crew)[0]) == 11


@pytest.mark.parametrize("block", [1, 7, 64, 1 << 20])
@pytest.mark.parametrize("content", [b"", b"one\n", b"one\ntwo\nthree\n", b"one\ntwo\ntor", b"torn"])
def test_chunks_end_with_whole_lines_and_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, content: bytes
) -> None:
    monkeypatch.setattr(distribution, "_CHUNK_BYTES", block)
    path = tmp_path / "requests-0.jsonl"
    path.write_bytes(content)
    chunks = [zlib.decompress(chunk) for chunk in record_chunks(path)]
    assert b"".join(chunks) == content
    assert all(chunk.endswith(b"\n") for chunk in chunks[:-1])
    assert parse_records(b"", path) == []
