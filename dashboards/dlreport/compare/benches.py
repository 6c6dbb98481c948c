"""Two benches compared, point by point: points of the same setting, or where no other could be meant, of the same question."""

from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from dlclient.bench_result import (
    Bench,
    Point,
    Sample,
    Setting,
    read_bench,
    read_point_samples,
    read_points,
    samples_file,
)
from dlclient.errors import ResultError
from dlclient.results import Reason

from dlreport.compare.comparison import Compared, Comparison, Lone, Side
from dlreport.compare.difference import Timed, changes
from dlreport.compare.discrepancies import difference, environment_discrepancies, one_of_two
from dlreport.compare.others import others_table
from dlreport.compare.settings import detail, varying
from dlreport.errors import NotAResultError

_Pair = tuple[Point, Point]


def compare_benches(a: Path, b: Path) -> Comparison:
    """Read and compare the results of two benches. Raises NotAResultError."""
    (bench_a, points_a), (bench_b, points_b) = _read(a), _read(b)
    pairs = match(points_a, points_b)
    timed_pairs = [pair for pair in pairs if all(point.latency_s is not None for point in pair)]
    told = varying([point.setting for pair in pairs for point in pair])
    return Comparison(
        kind="bench",
        a=_side("A", a, bench_a, points_a),
        b=_side("B", b, bench_b, points_b),
        points=tuple(_compared(a, b, pair, told) for pair in timed_pairs),
        lone=tuple(_lone(points_a, points_b, pairs)),
        others=others_table(pairs),
        warnings=tuple(_warnings((bench_a, bench_b), (points_a, points_b), pairs, (a, b))),
    )


def match(a: Sequence[Point], b: Sequence[Point]) -> list[_Pair]:
    """Points of A with their twins in B, in A's order: of equal settings; then, of what is left, of ever less that is equal.

    A server's address never counts. What differs within a pair is for others to say.
    """
    found: dict[str, _Pair] = {}
    left_a, left_b = list(a), list(b)
    for key in _KEYS:
        ours, theirs = _alone(left_a, key), _alone(left_b, key)
        for value, point in ours.items():
            if value in theirs:
                found[point.id] = (point, theirs[value])
        taken = {other.id for _, other in found.values()}
        left_a = [point for point in left_a if point.id not in found]
        left_b = [point for point in left_b if point.id not in taken]
    return [found[point.id] for point in a if point.id in found]


def _exactly(setting: Setting) -> Hashable:
    return setting.id


def _wherever(setting: Setting) -> Hashable:
    return msgspec.structs.replace(setting, target=_place(setting)).id


def _as_engine_likes(setting: Setting) -> Hashable:
    return _question(setting), setting.engine, setting.device, _place(setting)


def _question(setting: Setting) -> Hashable:
    return setting.model, setting.question, setting.batch_size, setting.in_flight


def _place(setting: Setting) -> str:
    return setting.target if setting.target == "inproc" else "server"


_KEYS: tuple[Callable[[Setting], Hashable], ...] = (_exactly, _wherever, _as_engine_likes, _question)


def _alone(points: Sequence[Point], key: Callable[[Setting], Hashable]) -> Mapping[Hashable, Point]:
    """Points by key, those that share theirs left out: nobody could tell which is meant."""
    counts = Counter(key(point.setting) for point in points)
    return {key(point.setting): point for point in points if counts[key(point.setting)] == 1}


def _read(folder: Path) -> tuple[Bench, list[Point]]:
    try:
        return read_bench(folder), read_points(folder)
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc


def _side(letter: str, folder: Path, bench: Bench, points: Sequence[Point]) -> Side:
    machine = bench.environment
    devices = ", ".join(gpu.name for gpu in machine.gpus) or machine.cpu_model
    engines = sorted({point.setting.engine for point in points if point.setting.engine})
    software = ", ".join(f"{name} {machine.versions.get(name, '')}".strip() for name in (bench.program, *engines))
    return Side(letter, str(folder), bench.started, f"{machine.host}: {devices}", software, stamps(bench, points))


def stamps(bench: Bench, points: Sequence[Point]) -> tuple[str, ...]:
    """Words that go with every figure of a bench that has figures which nobody should quote."""
    said = {
        "SIMULATED": bench.simulated or any(point.simulated for point in points),
        "INVALID": any(point.reasons for point in points),
        "UNFINISHED": bench.finished is None,
    }
    return tuple(word for word, is_so in said.items() if is_so)


def _compared(folder_a: Path, folder_b: Path, pair: _Pair, told: frozenset[str]) -> Compared:
    timed = [_timed(folder, point) for folder, point in zip((folder_a, folder_b), pair, strict=True)]
    doubts = [
        f"{letter} is invalid: {reason.text}"
        for letter, point in zip("AB", pair, strict=True)
        for reason in point.reasons
    ]
    doubts += [f"{letter} is simulated" for letter, point in zip("AB", pair, strict=True) if point.simulated]
    setting = pair[0].setting
    return Compared(setting.model, detail(setting, told), changes(*timed), tuple(doubts))


def _timed(folder: Path, point: Point) -> Timed:
    try:
        samples = read_point_samples(folder, point.id) if (folder / samples_file(point.id)).exists() else []
    except ResultError as exc:
        raise NotAResultError(str(exc)) from exc
    good = sorted((sample for sample in samples if not sample.error), key=lambda sample: sample.began_s)
    return Timed(
        latency_s=[_scoped_s(point, sample) for sample in good],
        images_per_s=point.images_per_s,
        done_s=[sample.began_s + sample.latency_s for sample in good],
        summary=point.latency_s,
    )


def _scoped_s(point: Point, sample: Sample) -> float:
    """The time that the point's figures are of: its own `latency_s` is the server's time where that is its scope."""
    return sample.server_s if point.scope == "server" and sample.server_s is not None else sample.latency_s


def _lone(a: Sequence[Point], b: Sequence[Point], pairs: Sequence[_Pair]) -> Iterator[Lone]:
    paired = {point.id: pair for pair in pairs for point in pair}
    told = varying([point.setting for point in (*a, *b)])
    for letter, points in (("A", a), ("B", b)):
        for point in points:
            pair = paired.get(point.id)
            name = f"{point.setting.model}, {detail(point.setting, told)}"
            if pair is None:
                failed = f" (it failed: {point.failure.text})" if point.failure else ""
                yield Lone(letter, name, f"not in the other{failed}")
                continue
            other = pair[1] if letter == "A" else pair[0]
            if point.failure is None and other.failure is not None:
                yield Lone(
                    letter, name, f"failed in the other ({other.failure.kind}): {other.failure.text}", failed=True
                )


def _warnings(
    benches: tuple[Bench, Bench],
    points: tuple[Sequence[Point], Sequence[Point]],
    pairs: Sequence[_Pair],
    folders: tuple[Path, Path],
) -> Iterator[Reason]:
    a, b = benches
    invalid = [sum(bool(point.reasons) for point in own) for own in points]
    for letter, number in zip("AB", invalid, strict=True):
        if number:
            yield Reason(
                "invalid", f"{letter} has invalid points: {number} of its {len(points['AB'.index(letter)])}",
                "see each one's reason in its own report, then measure them again",
            )  # fmt: skip
    yield from one_of_two(
        "unfinished",
        "not finished: points are missing",
        "go on with --resume",
        (a.finished is None, b.finished is None),
    )
    simulated = [
        any(point.simulated for point in own) or bench.simulated for bench, own in zip(benches, points, strict=True)
    ]
    yield from one_of_two(
        "simulated", "simulated: the figures say nothing about real hardware", "measure a real device", simulated
    )
    yield from environment_discrepancies(a.environment, b.environment)
    if (a.program, a.name) != (b.program, b.name):
        yield from difference("suite-differs", "the suites differ", _suite(a), _suite(b))
    yield from _within_pairs(pairs)
    yield from _without_samples(points, folders)


def _suite(bench: Bench) -> dict[str, str]:
    return {"program": bench.program, "suite": bench.name}


def _within_pairs(pairs: Sequence[_Pair]) -> Iterator[Reason]:
    """What differs between the points of a pair, each difference once with the number of pairs that have it."""
    found: Counter[str] = Counter()
    for a, b in pairs:
        ours, theirs = _conditions(a), _conditions(b)
        for key in dict.fromkeys((*ours, *theirs)):
            if ours.get(key) != theirs.get(key):
                found[f"{key} {_told(ours.get(key))} in A, {_told(theirs.get(key))} in B"] += 1
    if found:
        named = "; ".join(f"{text} ({number} points)" for text, number in found.most_common(8))
        yield Reason(
            "settings-differ", f"points that are compared differ: {named}",
            "if that is not what you compare, measure both again alike",
        )  # fmt: skip


def _conditions(point: Point) -> dict[str, object]:
    """All that should be equal in a fair pair."""
    setting = {key: value for key, value in msgspec.structs.asdict(point.setting).items() if key != "options"}
    read_back = {f"{key} as read back": value for key, value in point.read_back.items()}
    return {**setting, **point.setting.options, **read_back, "timed scope": point.scope, "weights": point.model_bytes}


def _told(value: object) -> str:
    return "not told" if value is None or value == "" else str(value)


def _without_samples(points: tuple[Sequence[Point], Sequence[Point]], folders: tuple[Path, Path]) -> Iterator[Reason]:
    for letter, own, folder in zip("AB", points, folders, strict=True):
        lacking = [
            point for point in own if point.latency_s is not None and not (folder / samples_file(point.id)).exists()
        ]
        if lacking:
            yield Reason(
                "samples-missing", f"{letter} has no raw samples of {len(lacking)} points: they have no intervals",
                f"restore {folder / 'samples'}, or measure again",
            )  # fmt: skip
