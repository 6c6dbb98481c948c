"""One point: its first call, its warm-up, its timed calls, and what is to be known about them."""

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from time import perf_counter

import msgspec

from dlclient.bench_result import Load, Point, Sample, Setting, Warming
from dlclient.client import Json
from dlclient.client_cost import NullServer
from dlclient.dd_bench import answers
from dlclient.dd_bench.answers import Said
from dlclient.dd_bench.calls import Lane, predict
from dlclient.dd_bench.crew import Call, Crew, Done
from dlclient.dd_bench.figures import Seen, point_of
from dlclient.dd_bench.images import Supply
from dlclient.dd_bench.options import Options
from dlclient.dd_bench.server import Counters, Server, counters, read_back
from dlclient.errors import PointError
from dlclient.request_writer import RequestWriter

MOST_REQUEST_BYTES = 256 << 20
"""Of the requests that are made before the clock: a longer list's later images do not come in a batch size's turn."""
COLDEST = "disk"
"""What a dlserve is asked for in a first call."""
FIRST_FOUND = "first_call_found"
CREATED = "created"
"""What the first call to a service found that was just created, where the server does not tell."""


class Measurer:
    """Measures points of one server. `stage`: where it is, for whoever catches the error."""

    def __init__(self, options: Options, server: Server, supply: Supply, null: NullServer) -> None:
        self.stage = ""
        self._options = options
        self._server = server
        self._supply = supply
        self._null = null
        self._writer = RequestWriter(options.url, options.api_key)

    def measure(
        self, setting: Setting, creation_s: float | None, *, comes_first: bool, tell: Callable[[str, float], None]
    ) -> tuple[Point, list[Sample]]:
        """The figures of a point. `creation_s`: what creating the service took just before; `comes_first`: no call of this run
        has reached it yet. Raises ClientError, PointError among them.
        """
        self._enter("first call", tell)
        if self._options.images.input == "raw" and setting.batch_size > 1:
            raise PointError("raw carries one image a call: use --concurrency, or --input base64", kind="unsupported")
        self._server.look()
        lanes = self._server.lanes(setting.model)
        load, found = self._first_call(lanes[0], setting, creation_s, comes_first=comes_first)
        self._enter("warm-up", tell)
        warming = self._warm_up(setting)
        calls = self._ready(lanes, setting.batch_size)
        self._enter("measure", tell)
        before = self._server.describe(setting.model)
        done = self._time(lanes, calls, tell)
        after = self._server.describe(setting.model)
        described = after[0]
        spent_s, others = _transform(counters(before), counters(after), len(done))
        self._enter("client's own cost", tell, 1.0)
        cost_s = self._null.cost_s(len(calls[lanes[0], 0].request), len(done[0].exchange.body))
        point = point_of(
            setting,
            samples := _samples(done),
            seen=self._seen(done, described, others=others),
            transform_s=spent_s,
            load=load,
            warming=warming,
            client_cost_s=cost_s,
        )
        own = described.get("dlserve") or {}
        return msgspec.structs.replace(
            point,
            simulated=bool(own.get("simulated")),
            model_bytes=own.get("weights_bytes") or None,
            read_back=read_back(described, self._server) | ({FIRST_FOUND: found} if found else {}),
        ), samples

    def _enter(self, stage: str, tell: Callable[[str, float], None], fraction: float = 0.0) -> None:
        self.stage = stage
        tell(stage, fraction)

    def _call(self, lane: Lane, number: int, batch_size: int, cache: str | None = None) -> Call:
        images = self._supply.batch(number, batch_size)
        distinct = self._supply.distinct(number, batch_size)
        read = partial(answers.read, timeout_s=self._options.timeout_s, images=batch_size, distinct=distinct)
        return Call(predict(self._options, self._writer, lane, images, cache), read)

    def _one(self, lane: Lane, setting: Setting, cache: str | None) -> Done:
        (done,) = self._work([lane], 1, lambda lane, number: self._call(lane, number, setting.batch_size, cache))
        return done

    def _work(self, lanes: Sequence[Lane], count: int, call: Callable[[Lane, int], Call]) -> list[Done]:
        with closing(Crew(self._options.url, self._options.timeout_s, lanes)) as crew:
            return _good(crew.work(count, call, evenly=True))

    def _first_call(
        self, lane: Lane, setting: Setting, creation_s: float | None, *, comes_first: bool
    ) -> tuple[Load | None, str]:
        """What it took, and what it found. A dlserve is asked to be as cold as it can for it; another server shows what it is
        like only before it has had a call.
        """
        cold = [COLDEST, None] if self._server.is_dlserve else [None] if comes_first else []
        for cache in cold:
            try:
                done = self._one(lane, setting, cache)
                break
            except PointError as exc:
                if cache is None or exc.kind != "unsupported":
                    raise
        else:
            return None, ""
        said = _said(done)
        seconds = done.exchange.done - done.exchange.sent - said.stages.get("demote", 0.0)
        load_s = said.stages.get("load")
        load = Load(prepare_s=creation_s, load_s=load_s, first_run_s=seconds - (load_s or 0.0))
        return load, said.cache or (CREATED if creation_s is not None else "unknown")

    def _warm_up(self, setting: Setting) -> Warming:
        """Each connection, or each worker of a dlserve, gets its calls; all at a time."""
        began = perf_counter()
        lanes = self._server.warming_lanes(setting.model)
        each = self._options.warm_up
        if each:
            self._work(lanes, each * len(lanes), lambda lane, number: self._call(lane, number, setting.batch_size))
        return Warming(iterations=each * len(lanes), seconds=perf_counter() - began, steady=None)

    def _ready(self, lanes: Sequence[Lane], batch_size: int) -> dict[tuple[Lane, int], Call]:
        """The requests of the timed part, by lane and number of the call: as many as differ, as far as they may take memory."""
        period = len(self._supply.parts) // math.gcd(len(self._supply.parts), batch_size)
        different = dict.fromkeys(lanes)
        size = sum(map(len, self._supply.batch(0, batch_size)))
        room = MOST_REQUEST_BYTES // max(1, size * len(different))
        count = max(1, min(period, self._options.passes * len(lanes), room))
        return {(lane, number): self._call(lane, number, batch_size) for lane in different for number in range(count)}

    def _time(
        self, lanes: Sequence[Lane], calls: dict[tuple[Lane, int], Call], tell: Callable[[str, float], None]
    ) -> list[Done]:
        count = len(calls) // len(set(lanes))
        with closing(Crew(self._options.url, self._options.timeout_s, lanes)) as crew:
            return _good(
                crew.work(
                    self._options.passes * len(lanes),
                    lambda lane, number: calls[lane, number % count],
                    lambda fraction: tell(self.stage, fraction),
                )
            )

    def _seen(self, done: Sequence[Done], described: Json, *, others: bool) -> Seen:
        told = [_said(one) for one in done]
        is_torch = str(described.get("mllib", "")).lower() == "torch" and not self._server.is_dlserve
        on_gpu = ((described.get("parameters") or {}).get("mllib") or {}).get("gpu")
        return Seen(
            colder=sum(said.cache not in {None, "warm"} for said in told),
            largest_part=min((said.batch_size for said in told if said.batch_size is not None), default=None),
            others=others,
            elsewhere=is_torch and self._options.gpu and on_gpu is False,
            one_by_one=is_torch and self._options.test_batch_size is None,
        )


def _transform(before: Counters, after: Counters, calls: int) -> tuple[float | None, bool]:
    """Mean seconds of a call's input phase, None where nobody can tell; and whether others used the service meanwhile."""
    if before.calls is not None and after.calls is not None and after.calls - before.calls != calls:
        return None, True
    if before.transform_s is None or after.transform_s is None:
        return None, False
    return (after.transform_s - before.transform_s) / calls, False


def _good(done: list[Done]) -> list[Done]:
    """The same, if all went well; else raises what went wrong first."""
    for one in done:
        if one.error is not None:
            raise one.error
    return done


def _said(done: Done) -> Said:
    assert done.said is not None, "a failed call ends its point"
    return done.said


def _samples(done: Sequence[Done]) -> list[Sample]:
    began = done[0].exchange.sent
    return [
        Sample(
            began_s=round(one.exchange.sent - began, 6),
            latency_s=one.exchange.done - one.exchange.sent,
            server_s=_said(one).server_s,
        )
        for one in done
    ]
