"""Whether a result can be stood behind: records and expectations in, typed reasons and warnings out. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dlclient.results import Environment, Reason, Record, Verdict


@dataclass(frozen=True, slots=True)
class Expected:
    """What a phase should have been."""

    phase: str
    temperature: str
    """That every answer should report."""
    requests: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """Reasons make invalid; warnings do not."""

    reasons: tuple[Reason, ...] = ()
    warnings: tuple[Reason, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """valid or invalid."""
        return "invalid" if self.reasons else "valid"


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What is known of a whole run beside its records."""

    interrupted: str
    """"" for a run that went to its end, else what ended it."""
    simulated: Sequence[str]
    """Services that a simulated engine answered for."""
    users: Sequence[int]
    """Every number of users there was, in the order in which they came."""
    requests: int
    """Per phase."""
    restarted_workers: Sequence[int]
    environment: Environment


def judge_phase(records: Sequence[Record], expected: Expected) -> Judgement:
    """Every planned request was sent, answered well, and found the temperature that the phase is about."""
    reasons: list[Reason] = []
    if len(records) < expected.requests:
        reasons.append(
            Reason(
                "incomplete",
                f"{expected.phase}: {expected.requests - len(records)} of {expected.requests} requests were not sent",
                "let the run go to its end, or ask for fewer --requests",
            )
        )
    if failed := [record for record in records if not record.ok]:
        (text, count), *others = Counter(record.error for record in failed).most_common()
        more = f" ({count} times; {len(others)} other kinds of error)" if others else ""
        reasons.append(
            Reason(
                "errors",
                f"{expected.phase}: {len(failed)} of {len(records)} requests failed: {text}{more}",
                "see the server's log and the records with an error in requests.jsonl, mend the cause, run again",
            )
        )
    temperature_reasons, warnings = _judge_temperature(records, expected)
    return Judgement((*reasons, *temperature_reasons), warnings)


def _judge_temperature(records: Sequence[Record], expected: Expected) -> tuple[tuple[Reason, ...], tuple[Reason, ...]]:
    found = Counter(record.cache for record in records if record.ok)
    if not found:
        return (), ()
    if set(found) == {None}:
        text = f"{expected.phase}: the server does not tell where it found the weights"
        if expected.temperature != "warm":  # a server that ignores the wish would pass its warm figures off as cold
            return (Reason("temperature-unknown", text, "use --phases warm for this server"),), ()
        cure = "read this phase's figures as those of whatever the server did; only dlserve's answers carry head.cache"
        return (), (Reason("temperature-unknown", text, cure),)
    wrong = found.total() - found[expected.temperature]
    if not wrong:
        return (), ()
    seen = ", ".join(f"{count} {cache or 'unknown'}" for cache, count in found.most_common())
    cures = {
        "warm": "give the cache room for all models (dlserve --cache-mb), or stream fewer --services",
        "host": "this server has no such tier; leave host out of --phases",
        "disk": "see why the server did not reload the weights: its log, its version",
    }
    reason = Reason(
        "wrong-temperature",
        f"{expected.phase}: {wrong} of {found.total()} answers found the weights elsewhere ({seen})",
        cures.get(expected.temperature, cures["disk"]),
    )
    return (reason,), ()


def judge_run(phases: Sequence[Judgement], circumstances: Circumstances) -> Judgement:
    """Everything that is wrong with any phase, and with the run as a whole."""
    reasons: list[Reason] = []
    if circumstances.interrupted:
        reasons.append(
            Reason("interrupted", f"the run did not go to its end: {circumstances.interrupted}", "run it again in full")
        )
    for phase in phases:
        reasons.extend(phase.reasons)
    warnings = [warning for phase in phases for warning in phase.warnings]
    return Judgement(tuple(reasons), (*warnings, *_warnings(circumstances)))


def _warnings(circumstances: Circumstances) -> list[Reason]:
    warnings: list[Reason] = []
    if circumstances.simulated:
        warnings.append(
            Reason(
                "simulated",
                f"a simulated engine answered for {', '.join(circumstances.simulated)}",
                "do not read these figures as those of hardware; stream models of a real engine for that",
            )
        )
    governor = circumstances.environment.cpu_governor
    if governor not in {"performance", "not visible"}:
        warnings.append(
            Reason(
                "cpu-governor",
                f"this machine's CPU governor is {governor}: its clock follows the load, and so do the figures",
                "set it to performance (cpupower frequency-set -g performance)",
            )
        )
    if len(set(circumstances.users)) > 1:
        warnings.append(
            Reason(
                "users-changed",
                f"the number of users changed during the run: {', then '.join(map(str, circumstances.users))}",
                "leave it alone while a run is on; start another run for another number",
            )
        )
    elif any(users > circumstances.requests for users in circumstances.users):
        warnings.append(
            Reason(
                "users-idle",
                f"{circumstances.users[0]} users shared {circumstances.requests} requests a phase: some sent nothing",
                "ask for more --requests or fewer users (-u)",
            )
        )
    if circumstances.restarted_workers:
        workers = ", ".join(map(str, circumstances.restarted_workers))
        warnings.append(
            Reason("worker-restarted", f"worker {workers} was replaced during the run", "see the server's log for why")
        )
    return warnings
