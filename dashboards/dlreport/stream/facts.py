"""How a run was measured, as terms and their texts: what somebody needs to judge it or to do it again."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from dlclient.results import Clock, Environment, PlanFacts, Run

from dlreport.quantity import MISSING, count, gigabytes, megabytes, moment, significant

_WHOLE = "nothing: every request is in the figures"
DIFFERENT = "see each machine"
"""Of the machines of a merged result, where they differ."""
_COLD = {
    "cache": "the request itself, which says what its model should be",
    "reload": "deleting the model and creating it anew before the request",
}
"""How a model was made cold, by what the target says."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A titled list of (term, text)."""

    title: str
    entries: tuple[tuple[str, str], ...]


def facts(run: Run) -> tuple[Facts, ...]:
    """The plan, the server and the load tester's machine."""
    return (
        Facts("The run", _run(run)),
        Facts("The plan", _plan(run.plan)),
        Facts("The server", _server(run)),
        Facts("The load tester's machine", environment(run.environment)),
    )


def left_out(run: Run) -> str:
    """What was sent and is in no figure, in a sentence; "" where the figures are of everything."""
    told = [f"{phase.name}: {text}" for phase in run.phases if (text := _clock(phase.clock)) != _WHOLE]
    return f"Not in the figures: {'; '.join(told)}." if told else ""


def hardware(run: Run) -> str:
    """What served, as the server tells it; "" where it does not."""
    devices = Counter(
        str(worker.get("device_name") or worker.get("device") or "unnamed device")
        for worker in _dicts(_dlserve(run).get("workers"))
    )
    text = ", ".join(f"{number} x {device}" if number > 1 else device for device, number in devices.items())
    return f"{text} (simulated)" if text and run.simulated else text


def on_gpu(run: Run) -> bool:
    """Whether any worker computes on a GPU."""
    return any(str(worker.get("device", "")).startswith("cuda") for worker in _dicts(_dlserve(run).get("workers")))


def drops_page_cache(run: Run) -> bool:
    """Whether the server said that it makes the system forget a file before it reads it."""
    return _dlserve(run).get("drop_page_cache") is True


def software(run: Run) -> str:
    """What served, by name and version."""
    head = _head(run)
    engines = _engines(run)
    name = "dlserve" if _dlserve(run) else "a server with DeepDetect's API"
    return ", ".join(part for part in (f"{name} {head.get('version', '')}".strip(), *engines) if part)


def workers(run: Run) -> int | None:
    """How many worker processes served; None where the server does not tell."""
    return len(_dicts(_dlserve(run).get("workers"))) or None


def device_names(run: Run) -> frozenset[str]:
    """What the workers run on, each kind once."""
    return frozenset(
        str(worker.get("device_name") or worker.get("device") or "") for worker in _dicts(_dlserve(run).get("workers"))
    )


def server_settings(run: Run) -> dict[str, str]:
    """What the server says of its own settings, by name."""
    own = _dlserve(run)
    return {
        "workers": str(workers(run) or MISSING),
        "threads per worker": _text(own.get("threads_per_worker")),
        "largest batch": _text(own.get("max_batch")),
        "balancing": _text(own.get("balance")),
        "page cache": _page_cache(run),
    }


def served_settings(run: Run) -> dict[str, dict[str, str]]:
    """Engine and settings (precision, threads, ...) of each streamed model, as the server read them back."""
    found = {}
    for service in _dicts(_head(run).get("services")):
        name, own = str(service.get("name")), _dict(service.get("dlserve"))
        if name in run.plan.services:
            settings = {key: str(value) for key, value in _dict(own.get("settings")).items()}
            found[name] = {"engine": str(own.get("engine") or service.get("mllib") or ""), **settings}
    return found


def server_json(run: Run) -> str:
    """All that the server told about itself, to be read in full."""
    return json.dumps(run.target.info, indent=2, ensure_ascii=False, default=str)


def _run(run: Run) -> tuple[tuple[str, str], ...]:
    return (
        ("started", moment(run.started)),
        ("finished", moment(run.finished) + (" (interrupted)" if run.interrupted else "")),
        (
            "timed scope",
            f"{run.timed_scope}: from the moment a request was due to the end of its answer, less the stage demote",
        ),
        ("device", "simulated: the figures say nothing about real hardware" if run.simulated else "real"),
        *((f"not counted, {phase.name}", _clock(phase.clock)) for phase in run.phases),
    )


def _plan(plan: PlanFacts) -> tuple[tuple[str, str], ...]:
    return (
        ("seed", str(plan.seeds)),
        ("requests per phase", count(plan.requests)),
        ("phases", ", ".join(plan.phases)),
        ("models", ", ".join(plan.services)),
        ("mix", plan.mix),
        ("load", "closed loop: requests follow answers" if plan.load == "closed" else f"open loop: {plan.load}"),
        (
            "users" if plan.load == "closed" else "senders",
            f"{count(plan.users)}: at most so many requests were in flight",
        ),
        ("Locust processes that sent", count(plan.shares)),
        ("images per request", count(plan.batch_size)),
        ("images", f"{plan.images}: {count(plan.image_count)} different, {megabytes(plan.image_bytes)} MB in all"),
        ("sha256 of the images", plan.image_sha256),
        ("sha256 of the plan", f"{plan.sha256} ({plan.file})"),
    )


def _clock(clock: Clock) -> str:
    """What of a phase was not counted."""
    parts = []
    if clock.warm_up_requests:
        steady = {True: ", until 3 windows agreed", False: ", in which no 3 windows agreed", None: ""}[clock.steady]
        parts.append(
            f"{count(clock.warm_up_requests)} requests of a warm-up ({significant(clock.warm_up_s)} s{steady})"
        )
    if clock.left_out:
        before = f"before {significant(clock.from_s)} s" if clock.from_s else ""
        after = f"after {significant(clock.to_s)} s" if clock.to_s is not None else ""
        parts.append(f"{count(clock.left_out)} requests due {' or '.join(filter(None, (before, after)))}")
    return ", ".join(parts) or _WHOLE


def _server(run: Run) -> tuple[tuple[str, str], ...]:
    head, own = _head(run), _dlserve(run)
    workers = _dicts(own.get("workers"))
    budget = sum(_number(worker.get("budget_bytes")) for worker in workers)
    told = (
        ("version", _text(head.get("version"))),
        ("commit", _text(head.get("commit"))),
        ("workers", count(len(workers)) if workers else MISSING),
        ("devices", hardware(run) or MISSING),
        ("engines", ", ".join(_engines(run)) or MISSING),
        ("threads per worker", _text(own.get("threads_per_worker"))),
        ("largest batch", _text(own.get("max_batch"))),
        ("balancing", _text(own.get("balance"))),
        ("page cache", _page_cache(run)),
        ("room for weights", f"{gigabytes(budget)} GB over all workers" if budget else MISSING),
    )
    cold = _COLD.get(run.target.cold, run.target.cold)
    return (("address", run.target.url), ("requests sent as", run.target.protocol), ("made cold by", cold), *told)


def _page_cache(run: Run) -> str:
    if "drop_page_cache" not in _dlserve(run):
        return MISSING
    return "dropped before a file is read" if drops_page_cache(run) else "used: files may lie in memory"


def environment(machine: Environment) -> tuple[tuple[str, str], ...]:
    """The machine and the software on it."""
    physical = "" if machine.cpu_cores_physical is None else f" on {machine.cpu_cores_physical} physical ones"
    limits = [
        f"{gigabytes(machine.container_memory_bytes)} GB" if machine.container_memory_bytes is not None else "",
        f"{machine.container_cpus:g} CPUs" if machine.container_cpus is not None else "",
    ]
    commit = machine.commit or "installed from a package"
    gpus = ", ".join(f"{gpu.name} ({gigabytes(gpu.memory_bytes)} GB)" for gpu in machine.gpus)
    return (
        ("host", machine.host),
        ("system", f"{machine.system}, kernel {machine.kernel}"),
        ("CPU", machine.cpu_model),
        ("cores", f"{machine.cpu_cores} logical cores{physical}" if machine.cpu_cores else DIFFERENT),
        ("CPU governor", machine.cpu_governor),
        ("memory", f"{gigabytes(machine.memory_bytes)} GB" if machine.memory_bytes else DIFFERENT),
        ("container's limits", ", ".join(limit for limit in limits if limit) or "none seen"),
        ("GPU", gpus or "none"),
        ("GPU driver", machine.gpu_driver or "none"),
        ("Python", machine.python),
        ("libraries", ", ".join(f"{library} {version}" for library, version in sorted(machine.versions.items()))),
        ("commit of dlserve's code", f"{commit}, with changes" if machine.modified else commit),
    )


def _head(run: Run) -> Mapping[str, object]:

    return run.target.info


def _dlserve(run: Run) -> Mapping[str, object]:
    return _dict(_head(run).get("dlserve"))


def _engines(run: Run) -> list[str]:
    """The engines that the streamed services run on; all that the server has, where it does not tell which those are."""
    # Results of the first version hold a text in place of the facts: the version, or "unavailable: why".
    told = {
        name: facts if isinstance(facts, dict) else {"version": facts}
        for name, facts in _dict(_dlserve(run).get("engines")).items()
    }
    has = {
        engine: f"{engine} {facts.get('version', '')}".strip()
        for engine, facts in told.items()
        if facts.get("available", not str(facts.get("version", "")).startswith("unavailable"))
    }
    streamed = [one for one in _dicts(_head(run).get("services")) if one.get("name") in run.plan.services]
    used = {str(_dict(service.get("dlserve")).get("engine") or service.get("mllib")) for service in streamed}
    return [text for engine, text in has.items() if engine in used] or list(has.values())


def _dict(value: object) -> Mapping[str, object]:
    """What a server says is not under our control: anything else than expected counts as not told."""
    return value if isinstance(value, dict) else {}


def _dicts(value: object) -> list[Mapping[str, object]]:
    return [_dict(one) for one in value] if isinstance(value, list) else []


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e18 else 0.0


def _text(value: object) -> str:
    return MISSING if value is None or value == "" else str(value)
