"""Build every network of the zoo and put it through its paces: python tests/models/check_zoo.py [NAME or PRESET...]

Not a test of every change: it takes half an hour and writes up to 0.6 GB at a time. Without names it leaves out networks of
more than a gigabyte. Exits with 1 if anything is wrong.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import skimage.data
from dlmodels.engines import create_engine
from dlmodels.engines.base import Engine
from dlmodels.images import Planes, decode, stack
from dlmodels.repository import ModelSpec
from dlmodels.zoo.build import build
from dlmodels.zoo.catalog import CATALOG, Network, find
from dlmodels.zoo.presets import PRESETS, preset

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
REPEATS = 5
MOST_BYTES = 10**9


def photographs(spec: ModelSpec) -> Planes:
    """A batch of sample pictures as the model takes them."""
    folder = Path(skimage.data.__file__).parent
    files = [next(path for path in folder.iterdir() if path.stem == name) for name in PHOTOGRAPHS]
    return stack([decode(path.read_bytes(), spec.input) for path in files], spec.input)


def median_ms(work: Callable[[], object]) -> float:
    """Median over some repetitions."""
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1e3


def check(engine: Engine, spec: ModelSpec) -> tuple[str, list[str]]:
    """A line of figures, and what is wrong."""
    began = time.perf_counter()
    model = engine.prepare(spec)
    prepare_s = time.perf_counter() - began
    batch = photographs(spec)
    model.load()
    together = model.run(batch)
    singles = np.concatenate([model.run(batch[i : i + 1]) for i in range(len(batch))])

    def cold() -> None:
        model.unload()
        model.load()
        model.run(batch[:1])

    warm_ms = median_ms(lambda: model.run(batch[:1]))
    cold_ms = median_ms(cold)
    again = model.run(batch)
    model.unload()
    apart = float(np.abs(together - singles).max())
    wrong = [
        text
        for text, bad in {
            "a batch differs from single images": apart > 1e-4,
            "a reload changes the answer": not np.array_equal(again, together),
            "probabilities do not sum to 1": bool(np.abs(together.sum(axis=1) - 1).max() > 1e-4),
            "all classes are alike": bool((together.max(axis=1) < 1.5 / spec.classes).any()),
            "one class has it all": bool((together.max(axis=1) > 0.999).any()),
            "all pictures are alike": len(set(together.argmax(axis=1))) == 1,
        }.items()
        if bad
    ]
    top = " ".join(f"{value:.3f}" for value in together.max(axis=1))
    figures = f"prepare {prepare_s:5.2f} s  warm {warm_ms:6.1f} ms  cold - warm {cold_ms - warm_ms:6.1f} ms"
    return f"{spec.name:<22} {figures}  apart {apart:.0e}  top {top}", wrong


def chosen(names: list[str]) -> list[Network]:
    """The networks and presets of those names, or all that are not huge."""
    if not names:
        return [network for network in CATALOG.values() if network.bytes <= MOST_BYTES]
    lists = [preset(name) if name in PRESETS else (find(name),) for name in names]
    return list(dict.fromkeys(network for networks in lists for network in networks))


def main() -> int:
    """Check the networks named on the command line, or all."""
    networks = chosen(sys.argv[1:])
    engines = {name: create_engine(name, "cpu", 1) for name in {network.engine for network in networks}}
    for engine in engines.values():
        engine.start()
    failures = 0
    for network in networks:
        with tempfile.TemporaryDirectory() as folder:
            began = time.perf_counter()
            spec = build(network.name, Path(folder))
            build_s = time.perf_counter() - began
            line, wrong = check(engines[network.engine], spec)
        print(f"{line}  build {build_s:.1f} s  {'; '.join(wrong).upper() or 'ok'}", flush=True)
        failures += bool(wrong)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
