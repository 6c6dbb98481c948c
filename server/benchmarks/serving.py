"""What it costs to be a server: `make bench`. Ratios measured in one run: every target is asked in turn in each round.

    zero      a simulated model of zero cost, a body of 60 KB: raw bytes, base64 JSON, a path, KServe's binary tensors, beside a
              bare uvicorn ASGI app and a bare FastAPI app that read the same body and return the same JSON; one client and eight
    stages    of the same by one client: where the microseconds go
    networks  real ones on torch, two workers with a thread each, at 1, 2, 8 and 32 clients, beside two processes that decode
              and run them in a loop, and one such process in turns with one client; no server in between. A rate is of ten answers to
              each client, after three that don't count: nothing is under way when a load begins

The load is wrk's. Processor time is /proc's. The result folder is drawn by dlreport.
"""

import argparse
import base64
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

import httpx
from dlclient import samples
from dlclient.serving_book import Book, now, ratios, write
from dlclient.serving_result import Measured, Ratio, Round, Stage
from dlmodels import images
from dlmodels.engines import create_engine
from dlmodels.repository import read_model
from driving import START_S, Server, build, check_tools, dlserve, end_all_when_told, load, uvicorn, write_script

BODY_BYTES = 60_000
JPEG = {"Content-Type": "image/jpeg"}
NETWORKS = ("squeezenet1_1", "resnet18", "resnet50")
PARTS = ("zero", "stages", "networks")
ZERO = {"mllib": "simulated", "parameters": {"mllib": {"decode": False}}}
_STAGE_CALLS = 2000
_PAIRS = 3
"""In a round, of a call in process and one of a server's only client."""
_TURNS, _SKIPPED_TURNS = 10, 3
"""Answers that each client of a real network waits for, at least, and those before that are not counted."""


@dataclass(frozen=True)
class Ask:
    """One target: which server, where, with what."""

    name: str
    server: Server
    path: str
    script: Path
    body: str


def take_turns(part: str, asks: Sequence[Ask], clients: Sequence[int], rounds: int, seconds: int, book: Book) -> None:
    """Ask every target in each round. One that answers with an error is a row that says so."""
    found: dict[tuple[str, int], list[Round]] = {(ask.name, count): [] for ask in asks for count in clients}
    failed: dict[str, str] = {}
    for ask in asks:
        _guarded(failed, ask, lambda ask: load(ask.server, ask.path, max(clients), 1, ask.script))
    for number in range(rounds):
        for count in clients:
            for ask in asks:
                if made := _guarded(failed, ask, lambda ask: load(ask.server, ask.path, count, seconds, ask.script)):  # noqa: B023  called at once
                    found[ask.name, count].append(made)
        print(f"  {part}: round {number + 1} of {rounds} done", file=sys.stderr)
    for ask in asks:
        for count in clients:
            rounds_of = () if ask.name in failed else tuple(found[ask.name, count])
            failure = failed.get(ask.name, "")
            book.measured.append(
                Measured(part=part, target=ask.name, clients=count, body=ask.body, rounds=rounds_of, failure=failure)
            )


def _guarded(failed: dict[str, str], ask: Ask, do: Callable[[Ask], Round]) -> Round | None:
    if ask.name in failed:
        return None
    try:
        return do(ask)
    except (RuntimeError, subprocess.TimeoutExpired) as exc:
        failed[ask.name] = str(exc)[:300]
        return None


def zero_bodies(folder: Path) -> dict[str, tuple[str, Path, str]]:
    """Path, script and words for each way in."""
    raw = os.urandom(BODY_BYTES)
    file = folder / "zero.jpg"
    file.write_bytes(raw)
    text = base64.b64encode(raw).decode()
    tensor = {"name": "input", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": BODY_BYTES + 4}}
    wanted = {"inputs": [tensor], "outputs": [{"name": "probabilities", "parameters": {"classification": 5}}]}
    head = json.dumps(wanted).encode()
    binary = head + BODY_BYTES.to_bytes(4, "little") + raw
    json_type = {"Content-Type": "application/json"}

    def document(item: str) -> bytes:
        return json.dumps({"service": "zero", "data": [item]}).encode()

    kserve = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return {
        "raw": ("/predict/zero", write_script(folder, "raw", raw, JPEG), "60 KB, raw"),
        "base64": ("/predict", write_script(folder, "base64", document(text), json_type), "80 KB, base64 in JSON"),
        "path": ("/predict", write_script(folder, "path", document(str(file)), json_type), "a path of 60 KB"),
        "kserve": ("/v2/models/zero/infer", write_script(folder, "kserve", binary, kserve), "60 KB, KServe binary"),
    }


def zero_cost(rounds: int, seconds: int, folder: Path, book: Book, *, stages_only: bool = False) -> None:
    """The server alone."""
    ways = zero_bodies(folder)
    with ExitStack() as stack:
        bare = stack.enter_context(uvicorn("bare:asgi", folder / "bare.log"))
        fastapi = stack.enter_context(uvicorn("bare:api", folder / "fastapi.log"))
        ours = stack.enter_context(dlserve(folder / "dlserve.log", "--data-root", str(folder)))
        httpx.put(f"{ours.url}/services/zero", json=ZERO, timeout=START_S).raise_for_status()
        if stages_only:
            where_it_goes(ours, (folder / "raw.body").read_bytes(), bare, book)
            return
        asks = [
            Ask("bare uvicorn", bare, "/", ways["raw"][1], "60 KB, raw"),
            Ask("bare FastAPI", fastapi, "/", ways["raw"][1], "60 KB, raw"),
            *(Ask(f"dlserve, {way}", ours, *rest) for way, rest in ways.items()),
        ]
        take_turns("zero", asks, (1, 8), rounds, seconds, book)

    def of(target: str, clients: int, base: str, value: Callable[[Round], float]) -> tuple[float, ...]:
        return ratios(book, "zero", (target, clients), (base, clients), value)

    raw = "dlserve, raw"
    book.ratios += [
        Ratio(text="raw, one client: p50 / bare uvicorn's", values=of(raw, 1, "bare uvicorn", p50), at_most=1.5),
        Ratio(
            text="raw, 8 clients: requests/s / bare FastAPI's", values=of(raw, 8, "bare FastAPI", rate), at_least=1.3
        ),
        Ratio(
            text="raw, 8 clients: CPU per request / bare uvicorn's", values=of(raw, 8, "bare uvicorn", cpu), at_most=3
        ),
        Ratio(text="raw, one client: CPU per request / bare uvicorn's", values=of(raw, 1, "bare uvicorn", cpu)),
        *(
            Ratio(text=f"{way}, 8 clients: requests/s / raw", values=of(f"dlserve, {way}", 8, raw, rate))
            for way in ways
            if way != "raw"
        ),
    ]


def p50(one: Round) -> float:
    """Of a round."""
    assert one.p50_s is not None
    return one.p50_s


def rate(one: Round) -> float:
    """Of a round."""
    return one.rate_per_s


def cpu(one: Round) -> float:
    """Of a round, all processes of the server."""
    return one.cpu_s["all"]


def where_it_goes(ours: Server, body: bytes, bare: Server, book: Book) -> None:
    """Medians over one client's calls: what each answer tells of itself, and what of the client's time is outside of it."""
    base = statistics.median(client_s for client_s, _ in _asked(bare, "/", body))
    calls = list(_asked(ours, "/predict/zero", body))
    names = ("wire", "decode", "queue", "demote", "load", "forward", "post")
    told: dict[str, list[float]] = {
        name: [] for name in ("bare uvicorn and client", "HTTP and render", "front end", *names)
    }
    for client_s, answer in calls:
        head = answer["head"]
        total_s = head["time"] / 1e3
        timing = head["timing"]
        told["bare uvicorn and client"].append(base)
        told["HTTP and render"].append(client_s - total_s - base)
        told["front end"].append(total_s - sum(timing.values()))
        for name in names:
            told[name].append(timing[name])
    kept = {name: statistics.median(values) for name, values in told.items()}
    book.stages += [Stage(target="dlserve, raw", stage=name, seconds=value) for name, value in kept.items() if value]


def _asked(server: Server, path: str, body: bytes) -> Iterator[tuple[float, Any]]:
    address = urlsplit(server.url)
    assert address.hostname is not None
    connection = HTTPConnection(address.hostname, address.port, timeout=START_S)
    for number in range(_STAGE_CALLS + _STAGE_CALLS // 10):
        began = perf_counter()
        connection.request("POST", path, body, JPEG)
        content = connection.getresponse().read()
        taken = perf_counter() - began
        if number >= _STAGE_CALLS // 10:
            yield taken, json.loads(content)
    connection.close()


def caller(folder: str, image: bytes) -> Callable[[float], tuple[list[float], float]]:
    """Decodes and runs, again and again, in this process, for so many seconds: the seconds of each, and of all together."""
    engine = create_engine("torch", "cpu", 1)
    engine.start()
    model = engine.prepare(read_model(Path(folder)))
    model.load()
    spec = model.spec.input

    def call(seconds: float) -> tuple[list[float], float]:
        times: list[float] = []
        began = now = perf_counter()
        while now - began < seconds:
            model.run(images.normalize(images.decode(image, spec, 1 << 26), spec)[None])
            before, now = now, perf_counter()
            times.append(now - before)
        return times, now - began

    for _ in range(3):
        call(1e-6)  # once
    return call


def loop(folder: str, image: bytes, seconds: float, together: Barrier, report: Callable[[Any], None]) -> None:
    """A process that calls when all are ready, for once."""
    call = caller(folder, image)
    together.wait(START_S)
    report(call(seconds))


def called(folder: str, image: bytes, line: Connection) -> None:
    """A process that calls whenever it is told for how many seconds, until it is told 0."""
    call = caller(folder, image)
    while seconds := line.recv():
        line.send(call(seconds))


@contextmanager
def one_caller(folder: Path, image: bytes) -> Iterator[Callable[[float], Round]]:
    """A process with no server that is there all the while, and calls for so many seconds when asked to."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=called, args=(str(folder), image, theirs), daemon=True)
    process.start()
    theirs.close()

    def call(seconds: float) -> Round:
        ours.send(seconds)
        answer = _report(ours, START_S + seconds)
        if answer is None:
            raise RuntimeError("the loop without a server has ended")
        return _together([answer])

    try:
        yield call
        ours.send(0)
        process.join(START_S)
    finally:
        process.kill()
        process.join()


def loop_times(count: int, folder: Path, image: bytes, seconds: float) -> list[tuple[list[float], float]]:
    """Of each of several processes with no server, together: what `loop` reports. Raises RuntimeError if one fails."""
    context = get_context("spawn")
    together = context.Barrier(count)
    lines = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=loop, args=(str(folder), image, seconds, together, theirs.send), daemon=True)
        for _, theirs in lines
    ]
    for process, (_, theirs) in zip(processes, lines, strict=True):
        process.start()
        theirs.close()
    # Read first, then joined: who has much to tell does not end before it is read.
    answers = [_report(ours, START_S + seconds) for ours, _ in lines]
    for process in processes:
        process.join(START_S)
        if process.exitcode != 0:
            raise RuntimeError(f"a loop without a server ended with {process.exitcode}")
    return [answer for answer in answers if answer is not None]


def _report(line: Connection, timeout_s: float) -> tuple[list[float], float] | None:
    """What a loop has sent; None if it ended without."""
    try:
        return line.recv() if line.poll(timeout_s) else None
    except EOFError:
        return None


def loops(count: int, folder: Path, image: bytes, seconds: float) -> Round:
    """Processes with no server, together."""
    return _together(loop_times(count, folder, image, seconds))


def _together(found: Sequence[tuple[list[float], float]]) -> Round:
    """Of processes that called beside each other: the slowest's median, and the calls per second of all."""
    return Round(
        p50_s=max(statistics.median(times) for times, _ in found),
        rate_per_s=sum(len(times) / taken for times, taken in found),
    )


def side_by_side(call: Callable[[], Round], ask: Callable[[], Round]) -> tuple[Round, Round, float]:
    """A call in process and one client of a server in turns: the medians of either, and of what a client's p50 is above the call's.

    What else the machine does changes within seconds by more than is looked for here, so each is compared with its neighbours.
    """
    loops_, asked, more = [call()], [], []
    for _ in range(_PAIRS):
        asked.append(ask())
        loops_.append(call())
        more.append(p50(asked[-1]) - (p50(loops_[-2]) + p50(loops_[-1])) / 2)
    return _middle(loops_), _middle(asked), statistics.median(more)


def _middle(rounds: Sequence[Round]) -> Round:
    """Of each figure the median."""
    parts_ = {part: statistics.median(one.cpu_s[part] for one in rounds) for part in rounds[0].cpu_s}
    rate_per_s = statistics.median(one.rate_per_s for one in rounds)
    return Round(p50_s=statistics.median(map(p50, rounds)), rate_per_s=rate_per_s, cpu_s=parts_)


def network(name: str, rounds: int, seconds: int, folder: Path, book: Book) -> None:
    """The server with a real network, and two processes without one."""
    repository = build(folder, (name,))
    image = samples.sample_images((500,))["astronaut-500.jpg"]
    script = write_script(folder, name, image, JPEG, counts=True)
    path = f"/predict/{name}"
    body = f"a JPEG of {len(image)} bytes"
    alone: dict[int, list[Round]] = {1: [], 2: []}
    served: dict[int, list[Round]] = {1: [], 2: [], 8: [], 32: []}
    more_ms: list[float] = []

    def play(ours: Server, call: Callable[[float], Round]) -> None:
        load(ours, path, 8, 2, script, skipped_s=1)
        theirs, ours_, more_s = side_by_side(lambda: call(seconds), lambda: load(ours, path, 1, seconds, script))
        alone[1].append(theirs)
        served[1].append(ours_)
        more_ms.append(more_s * 1e3)
        alone[2].append(loops(2, repository / name, image, seconds))
        for count in (2, 8, 32):
            turn_s = count * p50(theirs) / 2  # until each client has been answered once, by two workers
            lasting_s, skipped_s = math.ceil(_TURNS * turn_s), math.ceil(_SKIPPED_TURNS * turn_s)
            served[count].append(load(ours, path, count, max(seconds, lasting_s), script, skipped_s=skipped_s))

    for number in range(rounds):
        # Another server and another caller in each round: the same program, started again, comes out up to a millisecond apart.
        with (
            dlserve(folder / f"{name}.log", "--models-dir", str(repository), "--preload", name) as ours,
            one_caller(repository / name, image) as call,
        ):
            play(ours, call)
        print(f"  {name}: round {number + 1} of {rounds} done", file=sys.stderr)
    for target, rows in (("no server", alone), ("dlserve", served)):
        for count, found in rows.items():
            book.measured.append(Measured(part=name, target=target, clients=count, body=body, rounds=tuple(found)))
    eight = ratios(book, name, ("dlserve", 8), ("no server", 2), rate)
    book.ratios += [
        Ratio(text=f"{name}, 8 clients: images/s / two loops with no server", values=eight, at_least=0.97),
        Ratio(text=f"{name}, one client: p50 above the call in process", unit="ms", values=tuple(more_ms), at_most=0.6),
    ]


def parts(given: str) -> tuple[str, ...]:
    """`--only`. Raises ArgumentTypeError naming what there is."""
    found = tuple(given.split(","))
    if unknown := set(found) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no part {', '.join(sorted(unknown))}; there are: {', '.join(PARTS)}")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts that are asked for."""
    options = argparse.ArgumentParser(
        prog="make bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=2, help="of each measurement, whole ones")
    options.add_argument("--only", type=parts, default=PARTS, help=f"some of {','.join(PARTS)}")
    options.add_argument("--networks", default=",".join(NETWORKS), help="of the part networks")
    options.add_argument("--results", type=Path, default=Path("results/serving"))
    given = options.parse_args(arguments)
    end_all_when_told()
    if problem := check_tools():
        print(f"make bench: {problem}", file=sys.stderr)
        return 1
    began, book = now(), Book()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        if "zero" in given.only:
            zero_cost(given.rounds, given.seconds, folder, book)
        if "stages" in given.only:
            zero_cost(given.rounds, given.seconds, folder, book, stages_only=True)
        for name in given.networks.split(",") if "networks" in given.only else ():
            network(name, given.rounds, given.seconds, folder, book)
    write(given.results, "What it costs to be a server", began, given.seconds, book)
    return 0


if __name__ == "__main__":
    sys.exit(main())
