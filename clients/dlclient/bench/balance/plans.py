"""The requests of a comparison: one plan per mix and length, drawn by the stream load tester, for every policy alike."""

import subprocess
from pathlib import Path

from dlclient.balance_result import Profile
from dlclient.errors import SuiteError
from dlclient.local_server import COMMANDS
from dlclient.results import Slot, parse_plan

PLANS_DIR = "plans"


def plan_file(folder: Path, mix: str, requests: int) -> Path:
    """Where a plan is kept."""
    return folder / PLANS_DIR / f"{mix.replace(':', '-')}-{requests}.jsonl"


def make_plan(folder: Path, mix: str, requests: int, profiles: tuple[Profile, ...], seed: int) -> tuple[Slot, ...]:
    """Poisson arrivals at one request per second; drawn if it is not there. Raises SuiteError of a bad mix, or ResultError."""
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
        command = [str(COMMANDS / "dlload"), "plan", *options, "--output", str(draft)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  our own command
        if done.returncode != 0:
            said = done.stderr.strip().splitlines() or ["dlload plan failed"]
            raise SuiteError(f"the requests of a mix cannot be drawn: {said[-1].removeprefix('dlload: ')}")
        draft.replace(path)
    return tuple(parse_plan(path.read_bytes(), path)[1])


def speed(plan: tuple[Slot, ...], load: float, workers: int, profiles: tuple[Profile, ...], scale: float) -> float:
    """How many times faster the plan has to be sent for that load: capacity is a forward of one image on each worker."""
    forward_s = {profile.name: profile.forward_s * scale for profile in profiles}
    mean_s = sum(forward_s[slot.model] for slot in plan) / len(plan)
    last_s = plan[-1].due_s
    assert last_s, "a plan of an open loop has due times"
    return load * workers / mean_s / (len(plan) / last_s)
