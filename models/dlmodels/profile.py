"""A measured stream becomes simulated models: `dlmodels profile RESULT`, so that a laptop behaves like the machine measured.

Per service: the forward by batch size from the warm phase, the load from the cold ones, as distributions where there are
enough samples. A load is what a cold request took longer than a warm one: weights that are mapped arrive in the forward.
"""

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from dlmodels.engines.simulated import Profile, Quantiles, Time, parse_profile
from dlmodels.errors import ResultError
from dlmodels.images import InputSpec
from dlmodels.repository import MODEL_FILE, ModelSpec, check_absent, read_model, write_model
from dlmodels.stream_result import RESULT_SCHEMA, Call, Result, read_result

DEFAULT_OUTPUT = Path("models/simulated")
LEAST = 12
"""The fewest requests that a time is taken from."""
ENOUGH_FOR_QUANTILES = 64
"""From so many on a time is given as a distribution."""
QUANTILES = 21
"""Every 5 %."""
_SIGNIFICANT = 2.0
"""Standard errors by which cold forwards must differ from warm ones to be called different."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Seconds, ascending, each with its weight: of the n requests of one batch each counts as 1/n."""

    times_s: tuple[float, ...]
    weights: tuple[float, ...]

    @property
    def size(self) -> float:
        """How many batches it stands for."""
        return math.fsum(self.weights)

    @property
    def mean(self) -> float:
        """Of the batches, in seconds."""
        return math.fsum(map(math.prod, zip(self.times_s, self.weights, strict=True))) / self.size

    @property
    def deviation(self) -> float:
        """Standard deviation in seconds; 0 for a single batch."""
        if self.size <= 1:
            return 0.0
        mean = self.mean
        squares = ((time - mean) ** 2 * weight for time, weight in zip(self.times_s, self.weights, strict=True))
        return math.sqrt(math.fsum(squares) / (self.size - 1))

    @property
    def error(self) -> float:
        """Standard error of the mean, in seconds."""
        return self.deviation / math.sqrt(self.size)

    def shifted(self, by_s: float) -> "Sample":
        """The same, each time longer by so much."""
        return Sample(tuple(max(time + by_s, 0.0) for time in self.times_s), self.weights)

    def time(self) -> Time:
        """As the profile has it: quantiles of the same mean, or just the mean where there are too few for more."""
        if self.size < ENOUGH_FOR_QUANTILES:
            return self.mean
        drawn = Quantiles(tuple(self._quantile(step / (QUANTILES - 1)) for step in range(QUANTILES)))
        # Interpolation between quantiles moves the mean of a skewed distribution; it is the mean that must be right.
        scale = self.mean / drawn.mean() if drawn.mean() > 0 else 1.0
        return Quantiles(tuple(quantile * scale for quantile in drawn.quantiles))

    def _quantile(self, probability: float) -> float:
        reached, wanted = 0.0, probability * self.size
        for time, weight in zip(self.times_s, self.weights, strict=True):
            reached += weight
            if reached >= wanted - 1e-9:
                return time
        return self.times_s[-1]


@dataclass(frozen=True, slots=True)
class Measured:
    """One service: what it did, and how far its means can be trusted."""

    name: str
    forwards: Mapping[int, Sample]
    """By batch size."""
    loads: Mapping[str, Sample]
    """By the temperature that was found, disk and host."""
    load_errors: Mapping[str, float]
    """Standard error of each load's mean, in seconds."""


def sample(weighted: Iterable[tuple[float, float]]) -> Sample:
    """From pairs of seconds and weight, in any order."""
    ordered = sorted(weighted)
    return Sample(tuple(time for time, _ in ordered), tuple(weight for _, weight in ordered))


def measured(name: str, calls: Sequence[Call]) -> Measured:
    """What the service's good answers say. Raises ResultError where they are too few."""
    warm = [call for call in calls if call.cache == "warm"]
    by_size: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for call in warm:
        by_size[call.batch_size].append((call.stages["forward"], call.images / call.batch_size))
    forwards = {size: sample(pairs) for size, pairs in sorted(by_size.items())}
    alone = [call for call in warm if call.batch_size == call.images]
    if len(alone) < LEAST:
        raise ResultError(
            f"{name}: {len(alone)} warm requests ran in a batch of their own, at least {LEAST} are needed:"
            " stream more --requests with fewer users (-u), with warm among the --phases"
        )
    loads, errors = {}, {}
    for temperature in ("disk", "host"):
        cold = [call for call in calls if call.cache == temperature and call.batch_size == call.images]
        if cold and len(cold) < LEAST:
            raise ResultError(f"{name}: only {len(cold)} requests from {temperature} ran alone: stream more --requests")
        if cold:
            loads[temperature], errors[temperature] = _load(cold, alone)
    if "disk" not in loads:
        raise ResultError(f"{name}: no request began from disk: stream with --phases warm,disk")
    return Measured(name, forwards, loads, errors)


def _load(cold: Sequence[Call], warm: Sequence[Call]) -> tuple[Sample, float]:
    """What being cold cost: the stage `load`, and what the forward took longer, if that is more than chance."""
    load = sample((call.stages["load"], 1.0) for call in cold)
    forward, usual = (sample((call.stages["forward"], 1.0) for call in calls) for calls in (cold, warm))
    extra_s, error_s = forward.mean - usual.mean, math.hypot(forward.error, usual.error)
    if extra_s <= _SIGNIFICANT * error_s:
        return load, load.error
    return load.shifted(extra_s), math.hypot(load.error, error_s)


def forward_times(forwards: Mapping[int, Sample]) -> tuple[Time, ...]:
    """Entry i is for a batch of i + 1, with no gap; never shorter for a larger batch; one entry more sets the slope beyond."""
    sizes = sorted(forwards)
    means = _ascending([forwards[size].mean for size in sizes], [forwards[size].size for size in sizes])
    known = dict(zip(sizes, means, strict=True))
    entries: list[Time] = []
    for size in range(1, sizes[-1] + 1):
        if size not in known:
            entries.append(_between(size, known))
            continue
        time = forwards[size].time()
        mean = forwards[size].mean
        exact = isinstance(time, Quantiles) and math.isclose(mean, known[size])
        entries.append(time if exact else known[size])
    if len(sizes) > 1:  # the last two sizes alone would make a slope of noise
        entries.append(means[-1] + (means[-1] - means[0]) / (sizes[-1] - sizes[0]))
    return tuple(entries)


def _between(size: int, known: Mapping[int, float]) -> float:
    """Linear between the neighbours that were measured; below the smallest, in proportion to it."""
    above = min(other for other in known if other > size)
    below = max((other for other in known if other < size), default=0)
    low = known.get(below, 0.0)
    return low + (known[above] - low) * (size - below) / (above - below)


def _ascending(means: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The nearest ascending sequence by weighted least squares (pool adjacent violators, Ayer et al. 1955)."""
    blocks: list[tuple[float, float, int]] = []
    for mean, weight in zip(means, weights, strict=True):
        blocks.append((mean, weight, 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (one, one_weight, one_size), (two, two_weight, two_size) = blocks[-2:]
            both = one_weight + two_weight
            blocks[-2:] = [((one * one_weight + two * two_weight) / both, both, one_size + two_size)]
    return [mean for mean, _, size in blocks for _ in range(size)]


def profile_of(service: Measured, weights_bytes: int, *, decode: bool) -> Profile:
    """The profile of a simulated model that behaves like it."""
    forward = forward_times(service.forwards)
    loads = {temperature: load.time() for temperature, load in service.loads.items()}
    times = (*forward, *loads.values())
    spread = math.fsum(one.deviation * one.size for one in service.forwards.values())
    total = math.fsum(one.mean * one.size for one in service.forwards.values())
    by_number = any(not isinstance(time, Quantiles) for time in times)
    return Profile(
        load_s=loads["disk"],
        host_load_s=loads.get("host"),
        forward_s=forward,
        jitter=min(spread / total, 10.0) if by_number and total > 0 else 0.0,
        bytes=weights_bytes,
        decode=decode,
    )


def write_profiles(result: Result, output: Path, *, force: bool = False) -> list[tuple[Path, Measured]]:
    """A model folder for each service of the result. Raises ResultError, or BuildError where a folder is there already."""
    made: list[tuple[ModelSpec, Measured]] = []
    for name in result.services:
        folder = output / name
        if not force:
            check_absent(folder)
        elif folder.exists() and read_model(folder).engine != "simulated":
            raise ResultError(f"{folder} holds a real model, which is not replaced: choose another --output")
        calls = [call for call in result.calls if call.model == name]
        service = measured(name, calls)
        about = result.about(name)
        profile = profile_of(service, about.weights_bytes, decode=about.decodes)
        defaults = msgspec.to_builtins(Profile())
        parameters = {key: value for key, value in msgspec.to_builtins(profile).items() if value != defaults[key]}
        parameters = {key: value for key, value in parameters.items() if value is not None}
        spec = ModelSpec(
            name=name,
            engine="simulated",
            folder=str(folder),
            classes=about.classes,
            input=about.input or InputSpec(),
            parameters=parameters,
        )
        parse_profile(spec)
        made.append((spec, service))
    for spec, _ in made:  # all of them or, where one cannot be made, none
        _write(spec, result)
    return [(Path(spec.folder), service) for spec, service in made]


def _write(spec: ModelSpec, result: Result) -> None:
    folder = Path(spec.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_model(folder, spec)
        path = folder / MODEL_FILE
        comment = (
            f"# Simulated after a stream of {result.started}, served by {result.hardware}; see `dlmodels profile`.\n"
        )
        path.write_text(comment + path.read_text("utf-8"), "utf-8")
    except OSError as exc:
        raise ResultError(f"{folder} cannot be written ({exc.strerror}): choose another --output") from exc


def describe(made: Sequence[tuple[Path, Measured]]) -> str:
    """What came out, as a table: means in ms, each with its standard error."""
    lines = [f"{'ms':<24} {'load, disk':>17} {'load, host':>17} {'forward, alone':>17}  batches seen"]
    for _, service in made:
        loads = [
            _figure(service.loads[kind].mean, service.load_errors[kind]) if kind in service.loads else "-"
            for kind in ("disk", "host")
        ]
        first = next(iter(service.forwards.values()))
        sizes = ", ".join(f"{size} x {one.size:.0f}" for size, one in service.forwards.items())
        forward = _figure(first.mean, first.error)
        lines.append(f"{service.name:<24} {loads[0]:>17} {loads[1]:>17} {forward:>17}  {sizes}")
    return "\n".join(lines)


def _figure(seconds: float, error: float) -> str:
    return f"{seconds * 1e3:.3f} ±{error * 1e3:.3f}"


def add_parser(commands: Any) -> None:
    """The subcommand `profile` of `dlmodels`; `commands` is what argparse's add_subparsers returned."""
    parser = commands.add_parser(
        "profile",
        help="make simulated models of a measured stream",
        description="Make model folders of the simulated engine that behave like the services of a measured stream: load and "
        f"forward times, their distributions, bytes. RESULT is a result folder ({RESULT_SCHEMA}) with a warm and a disk phase.",
    )
    parser.add_argument("result", type=Path, metavar="RESULT", help="the folder that the stream wrote")
    parser.add_argument(
        "--output",
        type=Path,
        default=DEFAULT_OUTPUT,
        metavar="DIR",
        help=f"where the model folders go (default: {DEFAULT_OUTPUT})",
    )
    parser.add_argument("--force", action="store_true", help="replace simulated models that are there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> None:
    """What the subcommand does. Raises ResultError or BuildError."""
    result = read_result(options.result)
    made = write_profiles(result, options.output, force=options.force)
    if not result.valid:
        print(f"warning: {options.result} is an invalid run: see the reasons in its run.json before you trust this")
    print(describe(made))
    print(f"serve them with: dlserve --models-dir {options.output}")
