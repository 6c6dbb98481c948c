"""dlclient.bench.utilization: what a point says of a busy machine. NVML, RAPL and torch's GPU events are made up elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from itertools import count, repeat
from pathlib import Path
from time import thread_time

import pytest
from dlclient.bench import utilization as module
from dlclient.bench.energy import Rapl
from dlclient.bench.gpu_probe import GpuProbe, GpuReading
from dlclient.bench.job import Entered, Event, Job
from dlclient.bench.sampler import Reading
from dlclient.bench.subject import Told
from dlclient.bench.utilization import measure, observe, sampled, summarize
from dlclient.bench_result import Load, Point, Scope, Setting
from dlclient.errors import PointError
from dlmodels.engines.profiling import Profiled

from tests.clients.fake_nvml import FakeGpu, FakeNvml


def job(*, every_s: float = 3600.0, profile: bool = False, **setting: str) -> Job:
    chosen = Setting(model="m", question="utilization", **setting)  # type: ignore[arg-type]
    return Job(setting=chosen, every_s=every_s, profile=profile)


def point(found: Job) -> Point:
    return Point(id=found.setting.id, setting=found.setting, started="", seconds=0.0)


def reading(
    at_s: float,
    gpu: GpuReading | None = None,
    rapl_j: float | None = None,
    resident: int = 10,
    others: float = 0.0,
) -> Reading:
    """A quarter of four cores is busy for this process, and `others` cores for others."""
    return Reading(
        at_s=at_s,
        cpu_busy_s=(1 + others) * at_s,
        cpu_all_s=4 * at_s,
        process_cpu_s=at_s,
        resident_bytes=resident,
        gpu=gpu,
        rapl_j=rapl_j,
    )


def gpu(kernel: float, energy_j: float, memory_bytes: int) -> GpuReading:
    return GpuReading(kernel=kernel, memory=kernel / 2, memory_bytes=memory_bytes, power_w=None, energy_j=energy_j)


class Scripted:
    """A probe whose readings were made up."""

    def __init__(self, readings: Sequence[Reading]) -> None:
        self._readings = iter(readings)

    def read(self) -> Reading:
        """The next."""
        return next(self._readings)


class Counting:
    """A subject that counts its inferences."""

    scope: Scope = "model"
    simulated = False
    most_in_flight = 1
    read_back: Mapping[str, str | int | float | bool | None] = {}
    weights_bytes = None

    def __init__(self) -> None:
        self.inferred: list[object] = []

    def start(self) -> None:
        """Nothing to do."""

    def open(self) -> Load:
        """Nothing to do."""
        return Load()

    def reopen(self) -> float:
        """Nothing to do."""
        return 0.0

    def inputs(self, batch_size: int, number: int) -> Sequence[object]:
        """Their sizes and numbers."""
        return [(batch_size, index) for index in range(number)]

    def infer(self, batch: object) -> Told:
        """Noted."""
        self.inferred.append(batch)
        return Told()

    def classes(self, batch: object) -> Sequence[Sequence[tuple[int, float]]]:
        """None."""
        self.inferred.append(batch)
        return []

    def close(self) -> None:
        """Nothing to do."""


def test_on_a_cpu_cores_memory_and_the_processors_energy_are_told() -> None:
    found = summarize(
        [reading(10.0, rapl_j=1.0), reading(11.0, resident=99), reading(14.0, rapl_j=61.0)],
        job(),
        None,
        "RAPL package-0",
    )
    assert (found.samples, found.every_s) == (3, 3600.0)
    assert (found.cpu, found.process_cpu, found.process_bytes) == (0.25, 1.0, 99)
    assert (found.energy_j, found.energy_source, found.energies_j) == (60.0, "RAPL package-0", {"RAPL package-0": 60.0})
    assert (found.gpu, found.gpu_memory, found.gpu_memory_bytes, found.sm_activity) == (None, None, None, None)
    assert found.series == ((1.0, 0.25, None, 99), (4.0, 0.25, None, 10))


def test_on_a_gpu_its_own_energy_is_the_points_and_that_of_the_processors_stands_beside() -> None:
    readings = [
        reading(10.0, gpu(0.0, 500.0, 1 << 30), rapl_j=0.0),
        reading(11.0, gpu(0.8, 700.0, 3 << 30)),
        reading(12.0, gpu(0.6, 900.0, 2 << 30), rapl_j=30.0),
    ]
    found = summarize(readings, job(device="cuda:0"), 0.4, "RAPL package-0")
    assert found.gpu == pytest.approx(0.7)
    assert found.gpu_memory == pytest.approx(0.35)
    assert (found.gpu_memory_bytes, found.sm_activity) == (3 << 30, 0.4)
    assert (found.energy_j, found.energy_source) == (400.0, "NVML energy counter")
    assert found.energies_j == {"NVML energy counter": 400.0, "RAPL package-0": 30.0}


def test_a_point_on_a_gpu_is_sampled_through_nvml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the probe to the point, with a made-up clock of one second a reading."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    nvml = FakeNvml([FakeGpu(sm_percent=50.0, utilization=repeat((90, 30)), energy_mj=count(1000, 2000))])
    probe = GpuProbe(0, nvml)
    probe.open()
    clock = count(5)

    class Probe:
        def read(self) -> Reading:
            return reading(float(next(clock)), probe.read())

    answer, observed = sampled(lambda: "timed", Probe(), job(device="cuda:0"), probe, Rapl(tmp_path))
    probe.close()
    assert answer == "timed"
    found = observed.utilization
    assert (found.gpu, found.gpu_memory, found.sm_activity, found.energy_j) == (0.9, 0.3, 0.5, 2.0)
    assert observed.warnings == ()
    assert (nvml.open, nvml.samples) == (0, 0)


def test_a_timed_part_too_short_for_nvml_has_no_utilization_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    probe = GpuProbe(0, FakeNvml([FakeGpu()]))
    probe.open()
    scripted = Scripted([reading(5.0, gpu(1.0, 0.0, 1)), reading(5.5, gpu(1.0, 10.0, 1))])
    _, observed = sampled(lambda: None, scripted, job(device="cuda:0"), probe, Rapl(tmp_path))
    probe.close()
    assert observed.utilization.gpu is None
    assert observed.utilization.energy_j == 10.0
    assert [warning.code for warning in observed.warnings] == ["no-gpu-utilization"]


def test_a_sampler_that_costs_much_is_warned_of(tmp_path: Path) -> None:
    class Costly:
        asked = 0

        def read(self) -> Reading:
            until = thread_time() + 0.01
            while thread_time() < until:
                pass
            self.asked += 1
            return reading(float(self.asked))

    costly = Costly()

    def timed() -> None:
        while costly.asked < 6:
            sum(range(1000))

    _, observed = sampled(timed, costly, job(every_s=1e-4), None, Rapl(tmp_path))
    (warning,) = observed.warnings
    assert warning.code == "sampler-cost"
    assert "of a core" in warning.text


@pytest.mark.parametrize(("others", "warned"), [(0.1, False), (1.0, True)])
def test_programs_that_took_much_of_the_machine_meanwhile_are_warned_of(
    tmp_path: Path, others: float, warned: bool
) -> None:
    def run(asked: Job) -> list[str]:
        scripted = Scripted([reading(1.0, others=others), reading(3.0, others=others)])
        _, observed = sampled(lambda: None, scripted, asked, None, Rapl(tmp_path))
        return [warning.text for warning in observed.warnings]

    texts = run(job())
    assert bool(texts) == warned
    assert not texts or "took 1.00 cores, 25% of this machine" in texts[0]
    assert run(job(target="http://127.0.0.1:80")) == [], "at a server the others are the server"


def test_counters_that_only_root_may_read_are_warned_of(tmp_path: Path) -> None:
    rapl = Rapl(tmp_path)
    rapl.unreadable = "energy_uj cannot be read (Permission denied)"
    _, observed = sampled(lambda: None, Scripted([reading(1.0), reading(2.0)]), job(), None, rapl)
    (warning,) = observed.warnings
    assert (warning.code, "Permission denied" in warning.text) == ("no-rapl", True)


def test_this_machine_is_observed_and_the_result_is_handed_on() -> None:
    result, observed = observe(job(), lambda: sum(range(2_000_000)))
    assert result == 1_999_999_000_000
    found = observed.utilization
    assert found.samples == 2
    assert found.process_bytes is not None
    assert found.process_bytes > 1 << 20
    assert found.process_cpu is not None
    assert found.process_cpu >= 0


def test_at_a_server_here_the_processes_of_this_side_say_nothing() -> None:
    _, observed = observe(job(target="http://127.0.0.1:8080"), lambda: None)
    found = observed.utilization
    assert (found.process_cpu, found.process_bytes) == (None, None)
    assert [row[3] for row in found.series] == [None]


def test_a_server_elsewhere_is_refused() -> None:
    with pytest.raises(PointError, match=r"gpu7\.example is another machine") as caught:
        observe(job(target="http://gpu7.example:8080"), lambda: None)
    assert caught.value.kind == "unsupported"


def test_the_profile_runs_after_the_timed_part_and_its_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    told: list[Event] = []
    subject = Counting()

    def profile(engine: str, run: Callable[[], None], device: str) -> Profiled:
        order.append("profile")
        run()
        assert (engine, device) == ("torch", "cpu")
        return Profiled(0.25, (("conv", 0.5),))

    monkeypatch.setattr(module, "profile", profile)
    asked = job(profile=True, engine="torch")

    def statistics(_: None) -> Point:
        order.append("statistics")
        return point(asked)

    found = measure(asked, subject, told.append, lambda: order.append("timed"), statistics)
    assert order == ["timed", "statistics", "profile"]
    assert found.utilization is not None
    assert (found.utilization.kernel_busy, found.utilization.top_operators) == (0.25, (("conv", 0.5),))
    assert set(subject.inferred) == {(1, 0), (1, 1)}
    assert [event.stage for event in told if isinstance(event, Entered)] == ["profile"]


def test_an_engine_without_a_profiler_is_warned_of() -> None:
    subject = Counting()
    asked = job(profile=True, engine="onnxruntime")
    found = measure(asked, subject, lambda _: None, lambda: None, lambda _: point(asked))
    assert found.utilization is not None
    assert found.utilization.top_operators == ()
    assert "no-profile" in [warning.code for warning in found.warnings]
    assert subject.inferred == []
