"""Result folders of benches made up for tests of comparing and merging: every sample in them is known beforehand."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import stdev
from typing import Any

import msgspec
from dlclient.bench_folder import BenchFolder
from dlclient.bench_result import BENCH_SCHEMA, Bench, Failure, Point, Sample, Setting
from dlclient.results import Environment
from dlclient.statistics import latency

from tests.dashboards.conftest import ENVIRONMENT


def timed(
    setting: Setting, median_s: float, *, number: int = 200, seed: int = 1, **more: Any
) -> tuple[Point, list[Sample]]:
    """A point whose iterations ran one after the other, their times scattered around a median."""
    draw = random.Random(f"{seed} {setting.id}")
    samples, now = [], 0.0
    for _ in range(number):
        took_s = median_s * draw.lognormvariate(0, 0.1)
        samples.append(Sample(now, took_s))
        now += took_s + 1e-6
    times = [one.latency_s for one in samples]
    images = number * setting.batch_size
    values: dict[str, Any] = {
        "iterations": number, "images": images, "wall_s": now, "images_per_s": images / now,
        "latency_s": latency(times, intervals=True), "deviation_s": stdev(times),
    }  # fmt: skip
    point = Point(id=setting.id, setting=setting, started="2026-11-23T01:00:00Z", seconds=now, **(values | more))
    return point, samples


def failed_point(setting: Setting) -> tuple[Point, list[Sample]]:
    """A point that ran out of memory."""
    failure = Failure(kind="out-of-memory", stage="warm-up", text="8 GB are not enough; take a smaller batch")
    return Point(id=setting.id, setting=setting, started="2026-11-23T01:00:00Z", seconds=1.0, failure=failure), []


@dataclass
class BenchResult:
    """What a bench's folder is made from; `changes` are of its run.json."""

    points: Sequence[tuple[Point, list[Sample]]]
    environment: Environment = ENVIRONMENT
    finished: bool = True
    changes: Mapping[str, Any] = field(default_factory=dict)

    def write(self, path: Path) -> Path:
        """The folder, as dlbench leaves it."""
        bench = Bench(
            schema=BENCH_SCHEMA, kind="bench", program="dlbench", name="quick", title="A quick suite",
            started="2026-11-23T01:00:00Z", finished=None, points=len(self.points), command=("dlbench", "run", "quick"),
            environment=self.environment,
        )  # fmt: skip
        with BenchFolder(path, msgspec.structs.replace(bench, **self.changes), resume=False) as folder:
            for point, samples in self.points:
                folder.append(point, samples)
            if self.finished:
                folder.finish()
        return path


def two_networks(seed: int, *, slower: float = 1.0, **changes: Any) -> BenchResult:
    """Two networks at batches of 1 and 4; `slower`: by how much the second takes longer."""
    settings = [
        (Setting(model=model, engine="torch", batch_size=batch), median_s * batch * factor)
        for model, median_s, factor in (("resnet18", 0.03, 1.0), ("squeezenet1_1", 0.01, slower))
        for batch in (1, 4)
    ]
    return BenchResult([timed(setting, median_s, seed=seed) for setting, median_s in settings], changes=changes)
