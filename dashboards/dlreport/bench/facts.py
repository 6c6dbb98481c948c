"""How a bench was measured, as terms and their texts."""

import shlex

from dlclient.bench_result import Bench

from dlreport.bench.variant import common, served_by
from dlreport.bench.view import BenchView
from dlreport.quantity import MISSING, count, moment, significant
from dlreport.stream.facts import Facts, environment

_SCOPES = {
    "device": "device: the computing alone",
    "model": "model: the engine's call, until its answer is in the host's memory",
    "server": "server: the server's own time of a call",
    "client": "client: from sending to the whole answer",
}


def facts(view: BenchView) -> tuple[Facts, ...]:
    """The bench, what its points have in common, and the machine."""
    shared = common(view.points)
    return (
        Facts("The bench", _bench(view)),
        *([Facts("The same at every point", shared)] if shared else []),
        *([Facts("The server", _server(view.bench))] if view.bench.server else []),
        *_machines(view.bench),
    )


def _machines(bench: Bench) -> list[Facts]:
    """The one that measured; of a merged result each."""
    if not bench.machines:
        return [Facts("The machine that measured", environment(bench.environment))]
    return [Facts(f"The machine {name}", environment(machine)) for name, machine in bench.machines.items()]


def _server(bench: Bench) -> tuple[tuple[str, str], ...]:
    told = {key: value for key, value in bench.server.items() if isinstance(value, str | int | float) and value != ""}
    return (("hardware", served_by(bench) or MISSING), *((key, str(value)) for key, value in told.items()))


def _bench(view: BenchView) -> tuple[tuple[str, str], ...]:
    bench = view.bench
    told = [
        ("program", bench.program),
        ("suite", bench.name),
        ("command", shlex.join(bench.command)),
        ("started", moment(bench.started)),
        ("finished", "not finished" if bench.finished is None else moment(bench.finished)),
        ("points", f"{count(len(view.points))} of {count(bench.points)}"),
        (
            "timed scope",
            "; ".join(_SCOPES[scope] for scope in dict.fromkeys(point.scope for point in view.good)) or "none",
        ),
        ("device", "simulated: the figures say nothing about real hardware" if view.simulated else "real"),
    ]
    if view.partly_simulated:
        told[-1] = ("device", "simulated at some points, real at others")
    if bench.reproduces:
        told.append(("stands for", bench.reproduces))
    warmed = [point.warming for point in view.good if point.warming is not None]
    if warmed:
        longest = max(one.seconds for one in warmed)
        unsteady = sum(one.steady is False for one in warmed)
        said = f"{min(one.iterations for one in warmed)} to {max(one.iterations for one in warmed)} iterations, at most {significant(longest)} s"
        told.append(("warm-up", said + (f"; at {unsteady} points it never became steady" if unsteady else "")))
    iterations = [point.iterations for point in view.good if point.iterations]
    if iterations:
        told.append(("timed iterations", f"{count(min(iterations))} to {count(max(iterations))} a point"))
    return tuple(told)
