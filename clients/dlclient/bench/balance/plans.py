"""The requests of a comparison: one plan per mix and length, drawn by the stream load tester, for every policy alike."""

from pathlib import Path

from dlclient.balance_result import Profile
from dlclient.local_server import COMMANDS, run
from dlclient.results import Slot, parse_plan

PLANS_DIR = "plans"


def plan_file(folder: Path, mix: str, requests: int) -> Path:
    """Where a plan is kept."""
    return folder / PLANS_DIR / f"{mix.replace(':', '-')}-{requests}.jsonl"


def make_plan(folder: Path, mix: str, requests: int, profiles: tuple[Profile, ...], seed: int) -> tuple[Slot, ...]:
    """Poisson arrivals at one request per second; drawn if it is not there. Raises LocalServerError or ResultError."""
    path = plan_file(folder, mix, requests)
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        services = ",".join(profile.name for profile in profiles)
        options = (
            "--services",
            services,
            "--mix",
            mix,
            "--rate",
            "1",
            "--requests",
            str(requests),
            "--seed",
            str(seed),
        )
        draft = path.with_suffix(".tmp")
        with (path.parent / "dlload.log").open("wb") as log:
            command = (str(COMMANDS / "dlload"), "plan", *options, "--output", str(draft))
            run(command, f"drawing the requests of mix {mix} failed: see {log.name}", output=log)
        draft.replace(path)
    return tuple(parse_plan(path.read_bytes(), path)[1])


def speed(plan: tuple[Slot, ...], load: float, workers: int, profiles: tuple[Profile, ...], scale: float) -> float:
    """How many times faster the plan has to be sent for that load: capacity is a forward of one image on each worker."""
    forward_s = {profile.name: profile.forward_s * scale for profile in profiles}
    mean_s = sum(forward_s[slot.model] for slot in plan) / len(plan)
    last_s = plan[-1].due_s
    assert last_s, "a plan of an open loop has due times"
    return load * workers / mean_s / (len(plan) / last_s)
