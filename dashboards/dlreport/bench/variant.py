"""What sets points apart, but for their network and batch: the rows' group in a table, the line in a picture."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import msgspec
from dlclient.bench_result import Bench, Point, Setting

_SERVER = "the server's choice"


@dataclass(frozen=True)
class Variant:
    """Points that differ in network and batch alone. `label`: what sets it apart from the bench's other variants, in words."""

    id: str
    label: str
    hardware: str
    setting: Setting
    """Of its first point."""
    points: tuple[Point, ...]

    def of(self, model: str) -> tuple[Point, ...]:
        """Its points of a network, from the smallest batch to the largest."""
        found = (point for point in self.points if point.setting.model == model)
        return tuple(sorted(found, key=lambda point: point.setting.batch_size))


def _mode(setting: Setting) -> str:
    if setting.question != "throughput":
        return setting.question
    return f"{setting.in_flight} in flight" if setting.in_flight else "the engine's own number in flight"


def _device(setting: Setting) -> str:
    return setting.device or _SERVER


def _counted(threads: int | None) -> str:
    return "threads by the engine" if threads is None else f"{threads} thread" + ("" if threads == 1 else "s")


_AXES: Mapping[str, Callable[[Setting], str]] = MappingProxyType(
    {
        "target": lambda setting: "in process" if setting.target == "inproc" else setting.target,
        "engine": lambda setting: setting.engine or _SERVER,
        "device": _device,
        "precision": lambda setting: setting.precision or "the model's own precision",
        "mode": _mode,
        "threads": lambda setting: _counted(setting.threads),
        "affinity": lambda setting: f"CPUs {setting.affinity}" if setting.affinity else "all CPUs",
        "input": lambda setting: f"{setting.input} input" if setting.input else "input as usual",
    }
)
"""What a point is, part by part, in words: in the order of a label."""


_BARE = ("target", "engine", "device")
"""What names a place where nothing sets it apart."""


def variants(points: Iterable[Point], bench: Bench) -> tuple[Variant, ...]:
    """In the order in which they first came."""
    points = tuple(points)
    groups: dict[str, list[Point]] = {}
    for point in points:
        groups.setdefault(_id(point.setting), []).append(point)
    firsts = [group[0].setting for group in groups.values()]
    labels = _labels(firsts)
    return tuple(
        Variant(key, label, hardware(group[0], bench), group[0].setting, tuple(group))
        for (key, group), label in zip(groups.items(), labels, strict=True)
    )


def describe(setting: Setting, *, besides: Iterable[Setting] = ()) -> str:
    """A setting in words, network and batch left out; only what sets it apart from the others, where there are some."""
    others = tuple(besides)
    if not others:
        return _label(setting, (*_AXES, *map(_option, setting.options)))
    return _label(setting, _varying((setting, *others))) or _label(setting, _BARE)


def common(points: Iterable[Point]) -> tuple[tuple[str, str], ...]:
    """What all points have in common, as terms and texts; what is left to the engine at all of them is not mentioned."""
    settings = [point.setting for point in points]
    if not settings:
        return ()
    varying = _varying(settings)
    first = settings[0]
    told = [
        (axis, say(first))
        for axis, say in _AXES.items()
        if axis not in varying and (axis == "target" or _said(axis, first))
    ]
    told += [(key, str(value)) for key, value in first.options.items() if _option(key) not in varying]
    return tuple(told)


def hardware(point: Point, bench: Bench) -> str:
    """What computed, by name; what a server runs on is known only where it told."""
    setting, machine = point.setting, bench.environment
    told = point.read_back.get("device_name")
    if told:
        return str(told)
    if setting.target != "inproc":
        return served_by(bench) or f"a server ({setting.target}) that does not tell its hardware"
    if setting.device.startswith("cuda"):
        number = setting.device.removeprefix("cuda").removeprefix(":") or "0"
        if number.isdecimal() and int(number) < len(machine.gpus):
            return machine.gpus[int(number)].name
        return setting.device
    return machine.cpu_model


def served_by(bench: Bench) -> str:
    """What the server's workers run on, as it told; "" where it did not."""
    own = bench.server.get("dlserve")
    workers = own.get("workers") if isinstance(own, dict) else None
    told = [one for one in workers if isinstance(one, dict)] if isinstance(workers, list) else []
    devices = Counter(str(one.get("device_name") or one.get("device") or "unnamed device") for one in told)
    return ", ".join(f"{number} x {device}" if number > 1 else device for device, number in devices.items())


def _id(setting: Setting) -> str:
    return msgspec.structs.replace(setting, model="", batch_size=1).id


def _labels(settings: list[Setting]) -> list[str]:
    varying = _varying(settings)
    labels = [_label(setting, varying) or _label(setting, _BARE) for setting in settings]
    # what two share after all (an axis whose texts are equal) still needs two names
    seen: dict[str, int] = {}
    for number, label in enumerate(labels):
        seen[label] = seen.get(label, 0) + 1
        if seen[label] > 1:
            labels[number] = f"{label} ({seen[label]})"
    return labels


def _label(setting: Setting, axes: Collection[str]) -> str:
    parts = [_AXES[axis](setting) for axis in axes if axis in _AXES and _said(axis, setting)]
    parts += [f"{key} {value}" for key, value in setting.options.items() if _option(key) in axes]
    return ", ".join(parts)


def _option(key: str) -> str:
    """An engine's option as an axis: it may be called like one of ours."""
    return f"options.{key}"


def _varying(settings: Iterable[Setting]) -> tuple[str, ...]:
    """The axes on which they differ."""
    settings = tuple(settings)
    found = [axis for axis, say in _AXES.items() if len({say(setting) for setting in settings}) > 1]
    options = dict.fromkeys(key for setting in settings for key in setting.options)
    found += [_option(key) for key in options if len({repr(setting.options.get(key)) for setting in settings}) > 1]
    return tuple(found)


def _said(axis: str, setting: Setting) -> bool:
    """Whether somebody chose it, and it is worth a word."""
    if axis == "target":
        return setting.target != "inproc"
    return axis == "mode" or bool(getattr(setting, axis))
