"""`dlbench init`: asks what is to be measured, then writes a suite."""

import argparse
import contextlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w

from dlclient.bench.changes import Change
from dlclient.bench.checking import check, questions
from dlclient.bench.known import look
from dlclient.bench.matrix import axis
from dlclient.bench.problems import Source
from dlclient.bench.reading import parse_suite
from dlclient.bench.suite import Suite, to_table
from dlclient.environment import environment
from dlclient.errors import SuiteError

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001  argparse has no public name for it

_HEADER = """\
# Written by `dlbench init`. `dlbench check {file}` shows its points, `dlbench run {file}` measures them.
# `dlbench schema` says what else a suite may have: zip, exclude, options of engines, a budget, more [[matrix]] tables.
"""
_BATCHED = frozenset({"latency", "throughput", "utilization", "accuracy"})


@dataclass(frozen=True, slots=True)
class Topic:
    """Something to ask. `of`: the questions of a suite that it matters to; none: all."""

    key: str
    flag: str
    prompt: str
    default: str
    of: frozenset[str] = frozenset()


TOPICS = (
    Topic("models", "--models", "models: names of the zoo or of the repository, or presets", "squeezenet1_1"),
    Topic(
        "questions",
        "--questions",
        "questions: latency, throughput, max-batch, utilization, accuracy, load",
        "latency,load",
    ),
    Topic("engines", "--engines", "engines: torch, onnxruntime, openvino, ...; own: each model's", "own"),
    Topic("devices", "--devices", "devices: cpu, cuda:0, ...; available: the CPU and the first GPU", "available"),
    Topic("batch_sizes", "--batch-sizes", "batch sizes", "1,8", _BATCHED),
    Topic(
        "in_flight",
        "--in-flight",
        "inferences at a time; 0: as many as the engine finds best",
        "0",
        frozenset({"throughput"}),
    ),
    Topic("dataset", "--dataset", "folder of labelled images", "", frozenset({"accuracy"})),
    Topic("repository", "--repository", "folder of model folders", "models/repository"),
)
"""In the order in which they are asked."""


def add_parser(commands: "Commands") -> None:
    """The options of `dlbench init`."""
    parser = commands.add_parser(
        "init", help="asks, then writes a suite", description="Ask what is to be measured, then write a suite."
    )
    parser.add_argument(
        "file", metavar="FILE", type=Path, nargs="?", default=Path("bench.toml"), help="(default: %(default)s)"
    )
    for topic in TOPICS:
        default = f" (default: {topic.default})" if topic.default else ""
        parser.add_argument(
            topic.flag, dest=topic.key, metavar="VALUE,...", help=f"{topic.prompt}{default}; not asked then"
        )
    parser.add_argument("--no-input", action="store_true", help="ask nothing: what is not given is by default")
    parser.add_argument("--force", action="store_true", help="replace a file that exists")
    parser.set_defaults(run=_run)


def interview(
    name: str, given: Mapping[str, str], ask: Callable[[str], str] | None, tell: Callable[[str], None]
) -> Suite:
    """The suite that the answers mean. What is `given` is not asked; without `ask` the rest is by default.

    A bad answer is told and asked for again. Raises SuiteError for what is given and wrong.
    """
    changes: list[Change] = []
    suite = Suite(matrix=())
    for topic in TOPICS:
        if topic.of and topic.key not in given and not topic.of & {str(question) for question in questions(suite)}:
            continue
        while True:
            asked = ask is not None and topic.key not in given
            text = given.get(topic.key, topic.default)
            if ask is not None and asked:
                text = ask(f"{topic.prompt} [{topic.default}]: ").strip() or topic.default
            change = Change(topic.key, tuple(text.split(",")) if topic.key != "dataset" else (text,), topic.key)
            suite, problems = _try(name, [*changes, change], topic.key)
            if not problems:
                break
            if not asked:
                raise SuiteError("; ".join(problems))
            for problem in problems:
                tell(f"  {problem}")
        changes.append(change)
    return suite


def _try(name: str, changes: Sequence[Change], key: str) -> tuple[Suite, list[str]]:
    """The suite of these answers, and what is wrong with the one to `key`."""
    source = Source("suite")
    table: dict[str, Any] = {"name": name, "matrix": [{}]}
    suite = parse_suite(table, source, changes)
    with contextlib.suppress(SuiteError):  # which names also what has not been asked yet
        models, engines = ([str(value) for value in axis(suite.matrix[0], name)] for name in ("models", "engines"))
        check(suite, source, look(models, engines, Path(suite.repository), gpus=0))
    return suite, [problem for problem in source.problems if problem.startswith(f"{key}: ")]


def _run(options: argparse.Namespace, _command: tuple[str, ...], _child: Sequence[str]) -> int:
    path: Path = options.file
    if path.suffix != ".toml":
        raise SuiteError(
            f"a suite is a TOML file, and {path} is not named like one: call it {path.with_suffix('.toml')}"
        )
    if path.exists() and not options.force:
        raise SuiteError(f"{path} exists already: give another name, or --force to replace it")
    given = {topic.key: getattr(options, topic.key) for topic in TOPICS if getattr(options, topic.key) is not None}
    suite = interview(path.stem, given, None if options.no_input else _ask, lambda line: print(line, file=sys.stderr))
    models, engines = ([str(value) for value in axis(suite.matrix[0], key)] for key in ("models", "engines"))
    known = look(models, engines, Path(suite.repository), len(environment().gpus))
    points = check(suite, Source(str(path)), known)
    text = _HEADER.format(file=shlex.quote(str(path))) + tomli_w.dumps(to_table(suite))
    try:
        path.write_text(text, "utf-8")
    except OSError as exc:
        raise SuiteError(f"cannot write {path}: {exc.strerror}; name another file") from exc
    print(f"{path}: {len(points)} points; dlbench run {shlex.quote(str(path))} measures them")
    return 0


def _ask(prompt: str) -> str:
    try:
        return input(prompt)
    except EOFError as exc:
        raise SuiteError("no answer came: give --no-input to take what is by default, or answer by options") from exc
