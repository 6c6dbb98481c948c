"""Every network on every engine that reads it: python tests/models/check_engines.py [NAME...] [--preset NAME] [--json FILE]

Builds each network, converts it to every format that there is a way to, and asks every engine about real photographs. Not a
test of every change: all presets take hours on two cores. Exits with 1 if answers differ or an engine fails; what no
framework offers (MXNet's importer lacks an operator, say) is printed, and is no failure.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_args

import msgspec
from dlmodels.conversion.agreement import Answers, answers, answers_of, compare
from dlmodels.conversion.convert import Request, convert
from dlmodels.conversion.photographs import photographs
from dlmodels.conversion.routes import Target, route
from dlmodels.engines import create_engine, engine_type
from dlmodels.errors import ConversionError, DisagreementError, ModelError
from dlmodels.formats import readers_of
from dlmodels.repository import ModelSpec, read_model
from dlmodels.zoo.build import build
from dlmodels.zoo.presets import PRESETS, preset

TOLERANCE = 1e-3
REPEATS = 3


@dataclass(frozen=True)
class Row:
    """One network in one format on one engine."""

    network: str
    format: str
    engine: str
    same_class: int = 0
    pictures: int = 0
    largest_difference: float = float("nan")
    load_s: float = float("nan")
    forward_s: float = float("nan")
    """Of one picture: the median."""
    failure: str = ""
    is_offered: bool = True
    """False: no framework makes this format of the network."""

    @property
    def is_wrong(self) -> bool:
        """Whether the engine should have done better."""
        if self.failure:
            return self.is_offered
        return self.same_class != self.pictures or not self.largest_difference <= TOLERANCE

    def __str__(self) -> str:
        start = f"{self.network:<24} {self.format:<12} {self.engine:<12}"
        if self.failure:
            return f"{start} {'FAILED' if self.is_wrong else 'not offered'}: {self.failure}"
        return (
            f"{start} {self.same_class:>3}/{self.pictures:<3} {self.largest_difference:8.1e} {self.load_s:7.3f} s"
            f" {self.forward_s * 1e3:8.1f} ms{'  WRONG' if self.is_wrong else ''}"
        )


def check(network: str, repository: Path, threads: int) -> Iterator[Row]:
    """The network in its own format, then in every other."""
    source = build(network, repository)
    expected = answers(source)
    yield measured(network, source.engine if source.architecture else "own", source, expected, threads)
    for target in get_args(Target):
        try:
            route(source, target)
        except ConversionError:
            continue  # such as MXNet to MXNet
        yield from converted(network, target, source, expected, repository, threads)


def converted(
    network: str, target: Target, source: ModelSpec, expected: Answers, repository: Path, threads: int
) -> Iterator[Row]:
    """The network in one format, on every engine that reads it."""
    with tempfile.TemporaryDirectory(dir=repository, prefix=".converted-") as folder:
        try:
            request = Request(Path(source.folder), target, Path(folder), tolerance=1.0)
            made = convert(request, expected=expected).spec
        except ConversionError as exc:
            offered = target != "mxnet" or isinstance(exc, DisagreementError)
            yield Row(network, target, "", failure=str(exc), is_offered=offered)
            return
        for engine in readers_of(made.weights):
            if not engine_type(engine).missing("cpu"):
                yield measured(network, target, read_model(Path(made.folder), engine=engine), expected, threads)


def measured(network: str, kind: str, spec: ModelSpec, expected: Answers, threads: int) -> Row:
    """Answers of one engine, and its times: a load, the file in the page cache, and the forward of one picture."""
    batch = photographs(spec.input)
    try:
        engine = create_engine(spec.engine, "cpu", threads)
        engine.start()
        model = engine.prepare(spec)
        began = time.perf_counter()
        model.load()
        load_s = time.perf_counter() - began
        agreement = compare(expected, answers_of(model, batch))
        taken = []
        for _ in range(REPEATS):
            began = time.perf_counter()
            model.run(batch[:1])
            taken.append(time.perf_counter() - began)
        model.unload()
    except ModelError as exc:
        return Row(network, kind, spec.engine, failure=f"{type(exc).__name__}: {exc}")
    return Row(network, kind, spec.engine, **asdict(agreement), load_s=load_s, forward_s=statistics.median(taken))


def main() -> int:
    """Check the networks that are named, or those of all presets."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--preset", choices=tuple(PRESETS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--threads", type=int, default=1, help="for each engine")
    options = parser.parse_args()
    sets = [options.preset] if options.preset else [] if options.names else list(PRESETS)
    names = dict.fromkeys([*options.names, *(network.name for name in sets for network in preset(name))])
    rows: list[Row] = []
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            for found in check(name, Path(folder), options.threads):
                rows.append(found)
                print(found, flush=True)
        if options.json:
            options.json.write_bytes(msgspec.json.format(msgspec.json.encode([asdict(row) for row in rows])))
    wrong = [found for found in rows if found.is_wrong]
    print(f"{len(rows)} rows, {len(wrong)} of them wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
