"""Whether a result can be stood behind: records and expectations in, typed reasons and warnings out. Pure."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from dlclient.results import Environment, Phase, Reason, Record, Summary, Verdict
from dlclient.stability import drift
from dlclient.statistics import nearest_rank

LEAST_SEND_LAG_S = 0.001
LEAST_DRIFT_S = 0.0002
"""What a latency may be wrong by anyway (docs/measurement.md): a smaller drift is no drift of the server."""
SEND_LAG_SHARE = 0.05
"""The p99 of the send lag may be 1 ms, or that share of the median latency, whichever is more."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What a phase should have been."""

    phase: str
    temperature: str
    """That every answer should report."""
    requests: int
    is_scheduled: bool = False
    """Whether requests were due at times of their own, so that lateness is the load tester's."""
    max_send_lag_s: float | None = None
    """None: LEAST_SEND_LAG_S or SEND_LAG_SHARE of the median latency."""
    exhausted: bool = False
    """Whether at some time all senders were busy, so that requests had to wait for one."""
    steady: bool | None = None
    """Whether the warm-up ended in a steady state; None: nobody asked."""


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
    is_open_loop: bool = False
    missing_shares: Sequence[str] = ()
    """Locust workers that were lost on the way."""
    findings: Sequence[Reason] = ()
    """What watching the run found, that makes it invalid."""
    remarks: Sequence[Reason] = ()
    """What watching the run found, that is a warning."""


def judge_phase(records: Sequence[Record], expected: Expected, total: Summary, sent: int) -> Judgement:
    """Every planned request was sent in time, answered well, and found the temperature that the phase is about.

    `records`, `total`: of what the figures are of; `sent`: how many requests there are records of in all.
    """
    reasons: list[Reason] = []
    if sent < expected.requests:
        reasons.append(
            Reason(
                "incomplete",
                f"{expected.phase}: {expected.requests - sent} of {expected.requests} requests were not sent",
                "let the run go to its end, or ask for fewer --requests",
            )
        )
    if total.dropped:
        reasons.append(
            Reason(
                "dropped",
                f"{expected.phase}: {total.dropped} of {len(records)} requests were never sent: no sender was free in time",
                "lower the --rate, or allow more requests in flight (-u)",
            )
        )
    if failed := [record for record in records if not record.ok and not record.dropped]:
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
    good = [(record.due_s, record.latency_s) for record in records if record.ok]
    at_once = len({due_s for due_s, _ in good}) == 1  # all wait from the start: that is no drift
    if not at_once and (found := drift(good, least_s=LEAST_DRIFT_S)) is not None:
        unstable = found.reason(expected.phase)
        if expected.is_scheduled:
            reasons.append(unstable)
        else:  # users wait for their answers: no queue can grow without a bound
            warnings = (*warnings, unstable)
    if expected.is_scheduled:
        reasons.extend(_judge_send_lag(records, expected, total))
    if expected.steady is False:
        warnings = (
            *warnings,
            Reason(
                "not-steady",
                f"{expected.phase}: the warm-up ended before 3 windows agreed",
                "warm up for longer (--warmup 120s), or see what else this machine does",
            ),
        )
    return Judgement((*reasons, *temperature_reasons), warnings)


def _judge_send_lag(records: Sequence[Record], expected: Expected, total: Summary) -> list[Reason]:
    """A request that is sent late measures another load than the one that was asked for."""
    lags = sorted(record.send_lag_s for record in records if record.ok)
    if not lags:
        return []
    late_s = nearest_rank(lags, 0.99)  # whatever the sample rule: too few samples make no late one timely
    limit_s = expected.max_send_lag_s
    if limit_s is None:
        limit_s = max(LEAST_SEND_LAG_S, SEND_LAG_SHARE * (total.latency_s.p50 or 0.0))
    if late_s <= limit_s:
        return []
    late = f"p99 {late_s * 1e3:.3g} ms, by more than {limit_s * 1e3:.3g} ms"
    if expected.exhausted:
        text = f"{expected.phase}: all senders were busy and requests waited for one, {late}"
        cure = "lower the --rate, allow more requests in flight (-u), or say with --max-send-lag what you can live with"
        return [Reason("senders-exhausted", text, cure)]
    text = f"{expected.phase}: requests were sent late though senders were free, {late}"
    cure = (
        "lower the --rate; give the load tester a core of its own or more processes (--processes); or say with "
        "--max-send-lag what you can live with"
    )
    return [Reason("send-lag", text, cure)]


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
        "warm": "see the server's log for what was loaded meanwhile: give the cache room for all models (dlserve --cache-mb), or stream fewer --services",
        "host": "this server has no such tier; leave host out of --phases",
        "disk": "see why the server did not reload the weights: its log, its version",
    }
    reason = Reason(
        "wrong-temperature",
        f"{expected.phase}: {wrong} of {found.total()} answers found the weights elsewhere ({seen})",
        cures.get(expected.temperature, cures["disk"]),
    )
    return (reason,), ()


def judge_run(phases: Sequence[Phase | Judgement], circumstances: Circumstances) -> Judgement:
    """Everything that is wrong with any phase, and with the run as a whole."""
    reasons: list[Reason] = []
    if circumstances.interrupted:
        reasons.append(
            Reason("interrupted", f"the run did not go to its end: {circumstances.interrupted}", "run it again in full")
        )
    if circumstances.missing_shares:
        reasons.append(
            Reason(
                "missing-worker",
                f"{len(circumstances.missing_shares)} Locust workers were lost: {'; '.join(circumstances.missing_shares)}",
                "see that worker's log; its records up to then are in the result folder of its machine",
            )
        )
    if circumstances.restarted_workers:
        workers = ", ".join(map(str, circumstances.restarted_workers))
        reasons.append(
            Reason(
                "server-restarted",
                f"the server's worker {workers} was replaced during the run",
                "see the server's log for why, and run again",
            )
        )
    reasons.extend(circumstances.findings)
    for phase in phases:
        reasons.extend(phase.reasons)
    warnings = [warning for phase in phases for warning in phase.warnings]
    return Judgement(tuple(reasons), (*warnings, *circumstances.remarks, *_warnings(circumstances)))


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
    elif not circumstances.is_open_loop and any(users > circumstances.requests for users in circumstances.users):
        warnings.append(
            Reason(
                "users-idle",
                f"{circumstances.users[0]} users shared {circumstances.requests} requests a phase: some sent nothing",
                "ask for more --requests or fewer users (-u)",
            )
        )
    return warnings
