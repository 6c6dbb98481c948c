"""Stream result folders made up for the report's tests: every figure in them is known beforehand."""

import csv
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from dlclient.results import (
    PLAN_FILE,
    PLAN_SCHEMA,
    REQUESTS_FILE,
    SCHEMA,
    Clock,
    Environment,
    Objective,
    Phase,
    PlanFacts,
    PlanHeader,
    Reason,
    Record,
    Run,
    Seeds,
    Slot,
    Target,
    write_json,
    write_run,
)
from dlclient.search_result import SCHEMA as SEARCH_SCHEMA
from dlclient.search_result import SEARCH_FILE, Point, SearchResult
from dlclient.statistics import summarize, temperatures
from dlclient.timeline import SAMPLES_FILE, ClientSample, GpuSample, Note, Sample, ServerSample, encode_line

ENVIRONMENT = Environment(
    host="bench-1",
    system="Debian GNU/Linux 12",
    kernel="6.1.0",
    cpu_model="Example CPU 8000",
    cpu_cores=8,
    cpu_cores_physical=4,
    cpu_governor="performance",
    memory_bytes=32_000_000_000,
    container_memory_bytes=None,
    container_cpus=None,
    gpus=(),
    gpu_driver=None,
    python="3.11.7",
    versions={"locust": "2.47.0", "dlserve": "0.1.0"},
    commit="0123456789abcdef",
    modified=False,
)
INFO: dict[str, object] = {
    "method": "/info",
    "version": "0.1.0",
    "commit": "0123456789abcdef",
    "services": [
        {"name": name, "mllib": "torch", "dlserve": {"engine": "torch"}} for name in ("resnet18", "squeezenet1_1")
    ],
    "dlserve": {
        "workers": [
            {"worker": number, "device_name": "Example CPU 8000", "budget_bytes": 2_000_000_000} for number in range(2)
        ],
        "engines": {"torch": "2.15.0", "simulated": "", "mxnet": "unavailable: not installed"},
        "threads_per_worker": 4,
        "max_batch": 32,
        "balance": "predicted",
    },
}
"""The head of a server's answer to /info: that is what the load tester keeps."""


@dataclass
class StreamResult:
    """What a result folder is made from; a test changes what it is about, then calls `write`."""

    phases: dict[str, list[Record]] = field(default_factory=dict)
    services: tuple[str, ...] = ("resnet18", "squeezenet1_1")
    weights_bytes: Mapping[str, int] = field(
        default_factory=lambda: {"resnet18": 46_800_000, "squeezenet1_1": 4_950_000}
    )
    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()
    simulated: bool = False
    interrupted: bool = False
    info: dict[str, object] = field(default_factory=lambda: dict(INFO))
    batch_size: int = 1
    started: dict[str, float] = field(default_factory=dict)
    """When each phase began, on the clock of the samples."""
    samples: Sequence[Sample | Note] = ()
    load: str = "closed"
    offered_per_s: float | None = None
    delivered_per_s: float | None = None
    objectives: tuple[Objective, ...] = ()
    clock: Clock = field(default_factory=Clock)

    def run(self) -> Run:
        """run.json of it: summaries computed as the load tester computes them."""
        phases: list[Phase] = []
        for name, sent in self.phases.items():
            to_s = self.clock.to_s
            records = [one for one in sent if to_s is None or one.due_s <= to_s]
            total, services = summarize(records, self.services, self.weights_bytes, self.phases.get("warm", ()))
            phases.append(
                Phase(
                    name=name,
                    clock=self.clock,
                    offered_per_s=self.offered_per_s,
                    delivered_per_s=self.delivered_per_s,
                    objectives=self.objectives,
                    verdict="invalid" if self.reasons else "valid",
                    reasons=(),
                    warnings=(),
                    temperatures=temperatures(records),
                    total=total,
                    services=services,
                    started_s=self.started.get(name),
                )
            )
        return Run(
            schema=SCHEMA,
            kind="stream",
            started="2026-11-23T01:00:00Z",
            finished="2026-11-23T01:01:00Z",
            interrupted=self.interrupted,
            verdict="invalid" if self.reasons else "valid",
            reasons=self.reasons,
            warnings=self.warnings,
            simulated=self.simulated,
            timed_scope="client",
            plan=self._plan(),
            target=Target(url="http://127.0.0.1:8080", protocol="raw", info=self.info),
            environment=ENVIRONMENT,
            phases=tuple(phases),
        )

    def _plan(self) -> PlanFacts:
        return PlanFacts(
            seeds=Seeds.all(7),
            requests=max((len(records) for records in self.phases.values()), default=0),
            services=self.services,
            mix="uniform",
            images="sample",
            image_count=16,
            image_bytes=1_234_567,
            image_sha256="ab" * 32,
            batch_size=self.batch_size,
            users=2,
            load=self.load,
            phases=tuple(self.phases) or ("warm", "disk"),
            sha256="cd" * 32,
        )

    def write(self, folder: Path) -> Path:
        """The folder, as the load tester leaves it."""
        folder.mkdir(parents=True, exist_ok=True)
        write_run(folder, self.run())
        records = [record for phase in self.phases.values() for record in phase]
        _write_lines(folder / REQUESTS_FILE, records)
        plan = self._plan()
        header = PlanHeader(
            schema=PLAN_SCHEMA, seeds=Seeds.all(7), requests=plan.requests, services=self.services, mix="uniform", images=("cat.jpg",),
            batch_size=self.batch_size,
        )  # fmt: skip
        slots = [Slot(index, record.model, (record.image,)) for index, record in enumerate(records[: plan.requests])]
        _write_lines(folder / PLAN_FILE, [header, *slots])
        if self.samples:
            (folder / SAMPLES_FILE).write_bytes(b"".join(encode_line(line) for line in self.samples))
        return folder


def record(phase: str, index: int, due_s: float, latency_s: float, model: str, **more: Any) -> Record:
    """A good answer, unless `more` says otherwise; its stages are tenths of its latency that leave a tenth for the rest."""
    cold = phase != "warm"
    stages = {
        "wire": 0.05, "decode": 0.1, "queue": 0.05, "load": 0.4 if cold else 0.0, "forward": 0.25 if cold else 0.65, "post": 0.05,
    }  # fmt: skip
    values: dict[str, Any] = {
        "status": 200,
        "error": "",
        "image": f"photo-{index % 16}.jpg",
        "bytes_sent": 60_000,
        "images": 1,
        "worker": index % 2,
        "cache": phase,
        "batch_size": 1,
        "server_s": latency_s * 0.9,
        "stages": {stage: share * latency_s for stage, share in stages.items()},
        "first_byte_s": due_s + latency_s,
    }
    return Record(
        phase=phase, index=index, due_s=due_s, sent_s=due_s, done_s=due_s + latency_s, model=model, **(values | more)
    )


def late(
    phase: str, number: int, *, rate_per_s: float = 100.0, service_s: float = 0.01, lag_s: float = 0.002
) -> list[Record]:
    """A phase of an open loop of constant gaps, each request sent late and then served in the same time."""
    records = []
    for index in range(number):
        due_s = index / rate_per_s
        sent_s = due_s + lag_s
        times = {"sent_s": sent_s, "first_byte_s": sent_s + 0.9 * service_s, "done_s": sent_s + service_s}
        records.append(msgspec.structs.replace(record(phase, index, due_s, service_s, "a"), **times))
    return records


def failed(phase: str, index: int, due_s: float, model: str, status: int = 500, error: str = "InternalError") -> Record:
    """A request that got no good answer."""
    more = {
        "status": status,
        "error": error,
        "cache": None,
        "stages": None,
        "server_s": None,
        "worker": None,
        "batch_size": None,
    }
    return record(phase, index, due_s, 0.02, model, **more)


def drawn(
    phase: str,
    number: int,
    services: Sequence[str],
    median_s: Mapping[str, float],
    *,
    seed: int = 1,
    fail: Iterable[int] = (),
) -> list[Record]:
    """A phase of one user whose latencies scatter around a median for each model; the requests `fail` fail."""
    draw = random.Random(seed)
    fails, records, now = set(fail), [], 0.0
    for index in range(number):
        model = services[draw.randrange(len(services))]
        latency_s = median_s[model] * draw.lognormvariate(0, 0.18)
        records.append(
            failed(phase, index, now, model) if index in fails else record(phase, index, now, latency_s, model)
        )
        now += records[-1].latency_s
    return records


def client_sample(t_s: float, *, source: str = "pid-1", cpu_cores: float = 0.5) -> Sample:
    """One second of a load generator."""
    client = ClientSample(
        cpu_cores=cpu_cores, resident_bytes=1, loop_delay_p50_s=0.0, loop_delay_p99_s=0.002, loop_delay_max_s=0.01,
        switches_voluntary=1, switches_involuntary=1, clock_offset_s=0.0, system_busy=None, system_steal=None,
    )  # fmt: skip
    return Sample(t_s=t_s, interval_s=1.0, source=source, client=client)


def server_sample(t_s: float, *, gpus: Sequence[float] = (), **more: Any) -> Sample:
    """One second of a server; `gpus`: their utilizations."""
    found = {
        str(number): GpuSample(utilization=share, memory_bytes=2e9, power_w=200.0) for number, share in enumerate(gpus)
    }
    server = ServerSample(scrape_s=0.01, gpus=found, **more)
    return Sample(t_s=t_s, interval_s=1.0, source="http://server/metrics", server=server)


def _write_lines(path: Path, lines: Sequence[msgspec.Struct]) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def change_run(folder: Path, **changes: object) -> None:
    """Overwrite fields of a folder's run.json."""
    path = folder / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


@dataclass
class SearchFolder:
    """A search that found 97.5 requests/s in three runs; `changes` are of its search.json, `kept` the runs that are there."""

    changes: Mapping[str, object] = field(default_factory=dict)
    simulated: bool = False
    kept: tuple[str, ...] = ("probe-01", "probe-02", "probe-03")

    def write(self, folder: Path) -> Path:
        """The folder, as the load tester leaves it."""
        folder.mkdir(parents=True, exist_ok=True)
        rates = {"probe-01": 80.0, "probe-02": 102.0, "probe-03": 97.5}
        for name in self.kept:
            met = name != "probe-02"
            StreamResult(
                {"warm": late("warm", 90, rate_per_s=rates[name])},
                ("a",),
                {},
                reasons=() if met else (Reason("unstable-windows", "latency rose", "lower --rate"),),
                simulated=self.simulated,
                load=f"{rates[name]:g}/s poisson",
                offered_per_s=rates[name],
                delivered_per_s=rates[name],
                objectives=(self._standing(met=met),),
            ).write(folder / name)
        write_json(folder / SEARCH_FILE, msgspec.structs.replace(self._found(), **self.changes))
        return folder

    def _standing(self, *, met: bool) -> Objective:
        return Objective(
            text="p90<40ms", outcome="met" if met else "missed", sure=True, sentence="p90<40ms: measured 12 ms"
        )

    def _found(self) -> SearchResult:
        def point(rate: float, mean_s: float | None, *, meets: bool | None) -> Point:
            return Point(
                rate_per_s=rate, requests=500, delivered_per_s=rate, mean_s=mean_s, p50_s=mean_s and 0.9 * mean_s, meets=meets
            )  # fmt: skip

        return SearchResult(
            schema=SEARCH_SCHEMA,
            slo=("p90<40ms",),
            found="found",
            rate_per_s=97.5,
            upper_per_s=102.0,
            sentence="97.5 requests/s is the highest rate that meets the objective",
            knee_per_s=80.0,
            probes=3,
            requests=12_345,
            confirmed_in="probe-03",
            objectives=(self._standing(met=True),),
            curve=(
                point(80.0, 0.010, meets=True),
                point(90.0, 0.015, meets=None),
                point(102.0, 0.030, meets=False),
                point(400.0, None, meets=False),
            ),
            runs=("probe-01", "probe-02", "probe-03"),
        )
