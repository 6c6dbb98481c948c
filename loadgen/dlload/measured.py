"""What a phase measured, as objectives are judged by it. Pure."""

from collections.abc import Sequence

from dlclient.results import Objective, Record

from dlload.slo import Condition
from dlload.standing import Figures, judge


def figures(records: Sequence[Record], length_s: float | None) -> Figures:
    """Of the records that count. `length_s`: over which they were due in an open loop; None: a closed one's own length."""
    ordered = sorted(records, key=lambda record: (record.due_s, record.index))
    good = [record for record in ordered if record.ok]
    last_s = max((record.done_s for record in ordered), default=0.0)
    duration_s = length_s or last_s
    return Figures(
        requests=len(ordered),
        errors=len(ordered) - len(good),
        duration_s=duration_s,
        delivered_per_s=len(good) / max(duration_s, last_s) if last_s else 0.0,
        response_s=[record.latency_s for record in good],
        service_s=[record.service_s for record in good],
        ttfb_s=[
            record.first_byte_s - record.due_s - record.set_up_s for record in good if record.first_byte_s is not None
        ],
    )


def objectives(conditions: Sequence[Condition], measured: Figures) -> tuple[Objective, ...]:
    """How each condition stands."""
    if not conditions or not measured.requests:
        return ()
    return tuple(
        Objective(
            text=standing.condition.text, outcome=standing.outcome, sure=standing.sure, sentence=standing.sentence
        )
        for standing in judge(conditions, measured)
    )
