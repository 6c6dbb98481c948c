"""`dlbench latency resnet50` and the like: a suite of one matrix from options."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dlclient.bench.changes import Change, parse_set
from dlclient.bench.problems import Source
from dlclient.bench.reading import parse_suite
from dlclient.bench.suite import Suite


@dataclass(frozen=True, slots=True)
class Option:
    """One of the command line, and the key of a suite that it is."""

    flag: str
    key: str
    metavar: str
    text: str


_ENGINE = Option("--engine", "engines", "NAME,...", "engines (default: the model's own)")
_DEVICE = Option(
    "--device", "devices", "DEVICE,...", "cpu, cuda:N, or available: the CPU and the first GPU (default: cpu)"
)
_BATCHES = Option("--batch-sizes", "batch_sizes", "N,...", "images per inference (default: 1)")
_THREADS = Option("--threads", "threads", "N,...", "CPU threads of the engine (default: its own choice)")
_IN_FLIGHT = Option(
    "--in-flight",
    "in_flight",
    "N,...",
    "inferences at a time (default: as many as the engine finds best; 4 at a server)",
)
_PRECISION = Option(
    "--precision", "precision", "NAME,...", "what is computed in: fp32, bf16, ... (default: the engine's own)"
)
_AFFINITY = Option("--affinity", "affinity", "CPUS", "CPUs that the process is bound to: 0-3 (default: all)")
_INPUT = Option("--input", "inputs", "NAME,...", "in process: tensor or image; at a server: base64, path, raw or url")
_IMAGES = Option("--images", "images", "DIR", "images (default: sample photographs)")
_DATASET = Option("--dataset", "dataset", "DIR", "labelled images: class folders, or flat with a ground-truth file")
_PLACE = (_ENGINE, _DEVICE, _THREADS, _PRECISION, _AFFINITY)

QUESTIONS: Mapping[str, tuple[str, tuple[Option, ...]]] = MappingProxyType(
    {
        "latency": ("time of an inference, one in flight", (*_PLACE, _BATCHES, _INPUT, _IMAGES)),
        "throughput": ("images per second, several in flight", (*_PLACE, _BATCHES, _IN_FLIGHT, _INPUT, _IMAGES)),
        "max-batch": (
            "the largest batch that fits into memory",
            (
                *_PLACE,
                Option(
                    "--memory-limit", "memory_limit_bytes", "BYTES", "what it may take on a CPU (default: what is free)"
                ),
                Option("--most-images", "most_images", "N", "where the search ends (default: 4096)"),
            ),
        ),
        "utilization": (
            "how busy CPU and GPU are, memory and energy",
            (
                *_PLACE,
                _BATCHES,
                _INPUT,
                _IMAGES,
                Option("--every", "every_s", "SECONDS", "between two samples (default: 0.1)"),
            ),
        ),
        "accuracy": ("top-1 and top-5 on labelled images", (*_PLACE, _BATCHES, _INPUT, _DATASET)),
        "load": (
            "what loading and the first inference take",
            (
                *_PLACE,
                _INPUT,
                _IMAGES,
                Option("--reloads", "reloads", "N", "times to unload and load again (default: 5)"),
            ),
        ),
    }
)
"""Question -> what it is, and its options."""
SHARED = (
    Option("--repository", "repository", "DIR", "folder of model folders (default: models/repository)"),
    Option("--target", "target", "URL", "a server in place of an engine in the process: http://HOST:PORT"),
)


def add_options(parser: argparse.ArgumentParser, question: str) -> None:
    """The options of a question's command."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="in the repository or the zoo, or a preset")
    for option in (*QUESTIONS[question][1], *SHARED):
        parser.add_argument(option.flag, dest=option.key, metavar=option.metavar, help=option.text)
    parser.add_argument(
        "--option", action="append", default=[], metavar="KEY=VALUE,...", help="another setting of the engine"
    )
    if question == "utilization":
        parser.add_argument("--profile", action="store_true", help="also run a profiler, after the timed part")


def build_suite(question: str, options: argparse.Namespace) -> tuple[Suite, Source]:
    """The suite that the options mean; what is wrong with them is in the source. Raises SuiteError."""
    source = Source(f"dlbench {question}")
    changes = [Change("models", tuple(options.models), "MODEL")]
    for option in (*QUESTIONS[question][1], *SHARED):
        text = getattr(options, option.key)
        if text is not None:
            values = (text,) if option.key == "affinity" else tuple(text.split(","))
            changes.append(Change(option.key, values, f"{option.flag} {text}"))
    changes += [Change(f"options.{change.key}", change.values, change.option) for change in parse_set(options.option)]
    table: dict[str, Any] = {
        "name": question,
        "title": f"{question}: {', '.join(options.models)}",
        "matrix": [{"questions": question}],
    }
    if question == "utilization" and options.profile:
        table["profile"] = True
    return parse_suite(table, source, [*changes, *parse_set(options.set)]), source
