"""dlload.replay: plans of earlier runs and traces of others, and what is said of files that are neither."""

from pathlib import Path

import msgspec
import pytest
from dlclient.results import Seeds, Slot
from dlload import replay
from dlload.arrivals import read_course
from dlload.errors import OptionError
from dlload.plan import AtOnce, Closed, Intervals, Load, Open, Plan, draw, faster
from dlload.replay import check_fits, read_plan_file, read_trace, users_of

SERVICES = ("a", "b")
IMAGES = ("x.jpg", "y.jpg", "z.jpg")
LOADS = (
    Closed(20),
    Closed(20, "exponential", 0.1),
    Open(read_course("50", 1.0), "gamma:2", 20, None, "50/s gamma:2"),
    Intervals((100, 0, 2500), 20),
    AtOnce(20),
)


def drawn(load: Load = LOADS[0], batch_size: int = 1) -> Plan:
    return draw(seeds=Seeds.all(3), load=load, services=SERVICES, mix="zipf:1", images=IMAGES, batch_size=batch_size)


@pytest.mark.parametrize("load", LOADS, ids=lambda load: str(load.name))
@pytest.mark.parametrize("batch_size", [1, 4])
def test_a_plan_comes_back_byte_for_byte(tmp_path: Path, load: Load, batch_size: int) -> None:
    plan = drawn(load, batch_size)
    (tmp_path / "plan.jsonl").write_bytes(plan.encode())
    for path in (tmp_path, tmp_path / "plan.jsonl"):
        again = read_plan_file(path)
        assert again == plan
        assert again.encode() == plan.encode()
        assert again.is_open is plan.is_open


@pytest.mark.parametrize("load", LOADS, ids=lambda load: str(load.name))
def test_a_plan_at_another_speed_can_be_read_again_and_stays_open_or_closed(tmp_path: Path, load: Load) -> None:
    plan = faster(drawn(load), 3.0)
    (tmp_path / "plan.jsonl").write_bytes(plan.encode())
    assert read_plan_file(tmp_path) == plan
    assert plan.is_open is (not isinstance(load, Closed))


def changed(**fields: object) -> bytes:
    """A plan of which slot 2 has other fields."""
    plan = drawn(LOADS[2])
    slots = list(plan.slots)
    slots[2] = msgspec.structs.replace(slots[2], **fields)
    return Plan(plan.header, tuple(slots)).encode()


def without_line(number: int) -> bytes:
    lines = drawn(LOADS[2]).encode().splitlines(keepends=True)
    del lines[number - 1]
    return b"".join(lines)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "plan.jsonl:1: no plan header"),
        (b"hello\n", "plan.jsonl:1: no plan header"),
        (b"\xff\xd8\xff\n", "plan.jsonl:1: no plan header"),
        (b"{}\n", "has schema ''"),
        (b'{"schema": "dlserve-plan/9"}\n', "has schema 'dlserve-plan/9'"),
        (b'{"schema": "dlserve-plan/2"}\n', "plan.jsonl:1: no plan header"),
        (drawn().encode().splitlines()[0] + b"\n", "0 of its 20 requests are there; restore the file"),
        (drawn().encode()[:-30], "19 of its 20 requests are there"),
        (b"\n".join(drawn().encode().splitlines()[:12]), "11 of its 20 requests are there"),
        (drawn().encode().replace(b'{"index":4', b'{"index":"four"', 1), "plan.jsonl:6: "),
        (without_line(5), "19 of its 20 requests"),
        (
            without_line(5) + b'{"index":19,"model":"a","images":["x.jpg"],"due_s":99.0}\n',
            "plan.jsonl:5: not the slot 3",
        ),
        (changed(images=()), "plan.jsonl:4: not the slot 2"),
        (changed(images=("x.jpg", "y.jpg")), "plan.jsonl:4: not the slot 2"),
        (changed(due_s=None), "plan.jsonl:4: its times do not fit its load"),
        (changed(think_s=-1.0), "plan.jsonl:4: its times do not fit its load"),
        (changed(due_s=-0.5), "plan.jsonl:4: due before the slot above it"),
        (changed(due_s=0.0), "plan.jsonl:4: due before the slot above it"),
        (changed(due_s=1e9), "plan.jsonl:5: due before the slot above it"),
        (drawn(LOADS[2]).encode().replace(b'"load":"50/s gamma:2"', b'"load":"closed"'), "plan.jsonl:2: its times"),
    ],
)
def test_a_file_that_is_no_whole_plan_is_refused_in_a_sentence(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "plan.jsonl").write_bytes(content)
    with pytest.raises(OptionError, match="--plan") as caught:
        read_plan_file(tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize("name", ["nowhere", "nowhere/plan.jsonl", "."])
def test_a_plan_that_is_not_there_says_what_to_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(OptionError, match=r"cannot be read: .*; name a plan.jsonl or a result folder"):
        read_plan_file(tmp_path / name)


def test_a_plan_must_find_its_services_and_its_images() -> None:
    plan = drawn()
    check_fits(plan, ("c", *SERVICES), (*IMAGES, "more.jpg"))
    with pytest.raises(OptionError, match="--plan asks for b, which the server does not have"):
        check_fits(plan, ("a",), IMAGES)
    with pytest.raises(OptionError, match=r"--plan sends y.jpg, which --images does not hold"):
        check_fits(plan, SERVICES, ("x.jpg", "z.jpg"))
    many = Plan(plan.header, tuple(Slot(index, "a", (f"{index}.jpg",)) for index in range(5)))
    with pytest.raises(OptionError, match=r"--plan sends 0.jpg, 1.jpg, 2.jpg and 2 more, which"):
        check_fits(many, SERVICES, IMAGES)


def test_a_closed_plan_alone_is_for_one_user_and_an_open_one_says_nothing_of_users(tmp_path: Path) -> None:
    file = tmp_path / "plan.jsonl"
    file.write_bytes(drawn().encode())
    assert users_of(file) == users_of(tmp_path) == 1
    file.write_bytes(drawn(LOADS[2]).encode())
    assert users_of(file) is None
    assert users_of(tmp_path / "nowhere") is None


HEAD = "app,func,end_timestamp,duration\n"


def trace(path: Path, content: str | bytes, requests: int | None = None, **given: object) -> Plan:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    settings: dict[str, object] = {"services": SERVICES, "images": IMAGES, "batch_size": 1} | given
    return read_trace(path, seeds=Seeds.all(1), requests=requests, **settings)  # type: ignore[arg-type]


def test_a_trace_is_sent_in_the_order_of_its_starts_from_0(tmp_path: Path) -> None:
    # as in AzureFunctionsInvocationTraceForTwoWeeksJan2021.txt: the lines are in the order of their ends
    plan = trace(tmp_path / "t", HEAD + "p,f,10.5,0.25\np,g,11.0,2.0\np,f,12.0,0.5\n")
    assert [(slot.index, slot.due_s, slot.model) for slot in plan.slots] == [
        (0, 0.0, "b"),  # 9.0
        (1, 1.25, "a"),  # 10.25
        (2, 2.5, "a"),  # 11.5
    ]
    assert plan.is_open
    assert plan.header.load.startswith("trace sha256 ")
    assert plan.header.mix == "trace: 2 functions by popularity"


def test_the_most_popular_function_asks_the_first_service_and_they_go_round(tmp_path: Path) -> None:
    calls = ["p,rare", *["p,often"] * 3, *["q,often"] * 2, "p,never-mind"]
    plan = trace(tmp_path / "t", HEAD + "".join(f"{call},{at},0\n" for at, call in enumerate(calls)))
    # ranks: p/often, q/often, then p/never-mind before p/rare by name
    assert [slot.model for slot in plan.slots] == ["b", "a", "a", "a", "b", "b", "a"]


def test_columns_may_come_in_any_order_with_others_between_and_windows_line_ends(tmp_path: Path) -> None:
    plan = trace(tmp_path / "t", "duration, func ,extra,app,end_timestamp\r\n0.5,f,?,p,1.0\r\n\r\n0.5,f,?,p,2.0\r\n")
    assert [slot.due_s for slot in plan.slots] == [0.0, 1.0]


def test_a_trace_can_be_cut_and_asks_only_for_services_that_it_calls(tmp_path: Path) -> None:
    plan = trace(tmp_path / "t", HEAD + "p,f,3,0\np,f,2,0\np,g,1,0\n", requests=2)
    assert [slot.due_s for slot in plan.slots] == [0.0, 1.0]
    only = trace(tmp_path / "t", HEAD + "p,f,3,0\n")
    assert only.header.services == ("a",)
    assert only.header.requests == 1


def test_a_trace_is_the_same_plan_each_time_and_can_be_kept_as_one(tmp_path: Path) -> None:
    content = HEAD + "".join(f"p,f{number % 7},{number / 3},0.1\n" for number in range(200))
    plan = trace(tmp_path / "t", content, batch_size=2)
    assert plan == trace(tmp_path / "t", content, batch_size=2)
    assert {len(slot.images) for slot in plan.slots} == {2}
    (tmp_path / "plan.jsonl").write_bytes(plan.encode())
    assert read_plan_file(tmp_path) == plan


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "no column app, func, end_timestamp, duration; its first line must name app,func,end_timestamp,duration"),
        ("app,func,duration\n", "no column end_timestamp"),
        (HEAD, "no invocation in it"),
        (HEAD + "p,f,1.0\n", "t:2: no invocation: p,f,1.0"),
        (HEAD + "p,f,1.0,0\np,f,soon,0\n", "t:3: no invocation: p,f,soon,0"),
        (HEAD + "p,f,nan,0\n", "t:2: no invocation"),
        (HEAD + "p,f,inf,0\n", "t:2: no invocation"),
        (b"\xff\xfe\x00", "no column"),
        (HEAD + "p,f,1,0\np," + "f" * 200_000 + ",1,0\n", "t:3: "),
        (HEAD + "p,f,1,-5\n", "t:2: no invocation"),
    ],
)
def test_a_file_that_is_no_trace_is_refused_in_a_sentence(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(OptionError, match="--trace") as caught:
        trace(tmp_path / "t", content)
    assert says in str(caught.value)


def test_a_trace_that_is_not_there_or_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OptionError, match=r"cannot be read: .*; name a file of the trace"):
        read_trace(
            tmp_path / "nowhere", services=SERVICES, images=IMAGES, batch_size=1, seeds=Seeds.all(1), requests=None
        )
    monkeypatch.setattr(replay, "MOST_REQUESTS", 3)
    trace(tmp_path / "t", HEAD + "p,f,1,0\n" * 3)
    with pytest.raises(OptionError, match="more than 3 invocations; cut the file"):
        trace(tmp_path / "t", HEAD + "p,f,1,0\n" * 4)
    with pytest.raises(OptionError, match="no service to send to"):
        trace(tmp_path / "t", HEAD + "p,f,1,0\n", services=())
    with pytest.raises(OptionError, match="--batch-size 0: a request needs at least one image"):
        trace(tmp_path / "t", HEAD + "p,f,1,0\n", batch_size=0)
