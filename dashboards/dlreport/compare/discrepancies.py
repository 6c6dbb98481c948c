"""What two results differ in beside their figures: whatever of it was not meant to differ is a reason to doubt. Pure functions."""

from collections.abc import Iterable, Mapping, Sequence

from dlclient.results import Environment, Gpu, PlanFacts, Reason, Run

from dlreport.quantity import gigabytes
from dlreport.stream import facts

_IF_NOT_MEANT = "if that is not what you compare, measure both again alike"
_MOST_NAMED = 6


def stream_discrepancies(a: Run, b: Run) -> tuple[Reason, ...]:
    """Of two streams."""
    return (
        *_validity(a, b),
        *environment_discrepancies(a.environment, b.environment),
        *_server(a, b),
        *plan_discrepancies(a, b),
    )


def plan_discrepancies(a: Run, b: Run) -> tuple[Reason, ...]:
    """Of what was asked of two servers: the plan, the images, and the models' precision and settings."""
    return (*_plan(a.plan, b.plan), *_precision(a, b))


def environment_discrepancies(a: Environment, b: Environment) -> tuple[Reason, ...]:
    """Of the machines and the software on them."""
    found = difference("hardware-differs", "the machines differ", hardware(a), hardware(b))
    versions = {"Python": a.python, **a.versions}, {"Python": b.python, **b.versions}
    found += difference("versions-differ", "the software differs", *versions)
    if (a.commit, a.modified) != (b.commit, b.modified):
        found += difference("commit-differs", "dlserve's own code differs", {"": _commit(a)}, {"": _commit(b)})
    elif a.modified:
        found += (
            Reason(
                "commit-unknown", f"both ran changed code on commit {_commit(a)}: it may differ", "commit, then measure"
            ),
        )
    return found


def difference(code: str, what: str, a: Mapping[str, object], b: Mapping[str, object]) -> tuple[Reason, ...]:
    """One reason that names each key whose values differ; none where none does."""
    differing = [
        f"{key} {_told(a.get(key))} in A, {_told(b.get(key))} in B".strip()
        for key in dict.fromkeys((*a, *b))
        if a.get(key) != b.get(key)
    ]
    if not differing:
        return ()
    more = f"; and {len(differing) - _MOST_NAMED} more" if len(differing) > _MOST_NAMED else ""
    return (Reason(code, f"{what}: {'; '.join(differing[:_MOST_NAMED])}{more}", _IF_NOT_MEANT),)


def hardware(machine: Environment) -> dict[str, str]:
    """What of a machine sets its speed, by name."""
    limits = [
        f"{gigabytes(machine.container_memory_bytes)} GB" if machine.container_memory_bytes is not None else "",
        f"{machine.container_cpus:g} CPUs" if machine.container_cpus is not None else "",
    ]
    return {
        "host": machine.host,
        "CPU": machine.cpu_model,
        "cores": str(machine.cpu_cores),
        "governor": machine.cpu_governor,
        "turbo": {True: "on", False: "off", None: "not told"}[machine.cpu_turbo],
        "memory": f"{gigabytes(machine.memory_bytes)} GB",
        "container's limits": ", ".join(filter(None, limits)) or "none",
        "GPU": ", ".join(map(_gpu, machine.gpus)) or "none",
        "GPU driver": machine.gpu_driver or "none",
        "kernel": machine.kernel,
    }


def _gpu(gpu: Gpu) -> str:
    """What of it sets its speed and does not change while it runs."""
    link = [
        "" if gpu.pcie_generation_limit is None else f"PCIe {gpu.pcie_generation_limit}",
        "" if gpu.pcie_width_limit is None else f"{gpu.pcie_width_limit} lanes",
        "" if gpu.power_limit_w is None else f"at most {gpu.power_limit_w:g} W",
    ]
    told = ", ".join(filter(None, link))
    return f"{gpu.name} ({told})" if told else gpu.name


def one_of_two(code: str, text: str, cure: str, which: Iterable[bool]) -> tuple[Reason, ...]:
    """A reason that says which of A and B it is about; none where neither."""
    letters = [letter for letter, so in zip("AB", which, strict=True) if so]
    return (
        (Reason(code, f"{' and '.join(letters)} {'are' if len(letters) == 2 else 'is'} {text}", cure),)
        if letters
        else ()
    )


def _validity(a: Run, b: Run) -> tuple[Reason, ...]:
    found: list[Reason] = []
    for letter, run in (("A", a), ("B", b)):
        if run.verdict != "valid":
            why = "; ".join(reason.text for reason in run.reasons) or "its run.json does not say why"
            cures = "; ".join(dict.fromkeys(reason.cure for reason in run.reasons)) or "measure again"
            found.append(Reason("invalid", f"{letter} is invalid: {why}", cures))
    found += one_of_two("interrupted", "interrupted before the end", "measure again", (a.interrupted, b.interrupted))
    simulated = "simulated: the figures say nothing about real hardware"
    found += one_of_two("simulated", simulated, "measure a real device", (a.simulated, b.simulated))
    return tuple(found)


def _server(a: Run, b: Run) -> tuple[Reason, ...]:
    hardware_of = {"served by": facts.hardware(a)}, {"served by": facts.hardware(b)}
    software_of = {"server": facts.software(a)}, {"server": facts.software(b)}
    settings = _settings(a), _settings(b)
    return (
        *difference("server-hardware-differs", "the servers run on different devices", *hardware_of),
        *difference("server-versions-differ", "the servers' software differs", *software_of),
        *difference("server-settings-differ", "the servers' settings differ", *settings),
    )


def _settings(run: Run) -> dict[str, str]:
    """What of a server's settings and of the way to it sets its speed."""
    told = facts.server_settings(run)
    return {**told, "requests sent as": run.target.protocol, "made cold by": run.target.cold}


def _plan(a: PlanFacts, b: PlanFacts) -> tuple[Reason, ...]:
    images = {"": f"{a.images} ({a.image_sha256[:10]})"}, {"": f"{b.images} ({b.image_sha256[:10]})"}
    found = difference("images-differ", "the images differ", *images) if a.image_sha256 != b.image_sha256 else ()
    plans = _drawn_from(a), _drawn_from(b)
    if a.sha256 != b.sha256 or plans[0] != plans[1]:
        cure = "measure B with --plan A, or with A's seed, images and settings: the means are then compared request by request"
        named = difference("plan-differs", "the plans differ", *plans)
        text = named[0].text if named else "the plans differ, though they name the same settings"
        found += (Reason("plan-differs", text, cure),)
    return found


def _drawn_from(plan: PlanFacts) -> dict[str, object]:
    return {
        "seed": str(plan.seeds),
        "requests per phase": plan.requests,
        "models": ", ".join(plan.services),
        "mix": plan.mix,
        "load": plan.load,
        "users": plan.users,
        "images per request": plan.batch_size,
        "phases": ", ".join(plan.phases),
        "Locust processes": plan.shares,
    }


def _precision(a: Run, b: Run) -> tuple[Reason, ...]:
    """Engine, precision and threads of each model that both streamed, as the servers read them back."""
    found: list[str] = []
    ours, theirs = facts.served_settings(a), facts.served_settings(b)
    for service in sorted(ours.keys() & theirs.keys()):
        settings, other = ours[service], theirs[service]
        found += [
            f"{service}: {key} {_told(settings.get(key))} in A, {_told(other.get(key))} in B"
            for key in dict.fromkeys((*settings, *other))
            if settings.get(key) != other.get(key)
        ]
    return _listed("precision-differs", "the models' precision or settings differ", found)


def _listed(code: str, what: str, found: Sequence[str]) -> tuple[Reason, ...]:
    if not found:
        return ()
    more = f"; and {len(found) - _MOST_NAMED} more" if len(found) > _MOST_NAMED else ""
    return (Reason(code, f"{what}: {'; '.join(found[:_MOST_NAMED])}{more}", _IF_NOT_MEANT),)


def _commit(machine: Environment) -> str:
    commit = machine.commit[:10] if machine.commit else "of a package"
    return f"{commit}, with changes" if machine.modified else commit


def _told(value: object) -> str:
    return "not told" if value is None or value == "" else str(value)
