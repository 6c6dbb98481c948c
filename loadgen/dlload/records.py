"""What is written down of one request: a Record, out of the exchange and what the answer says. Pure."""

from dlclient.exchange import Exchange
from dlclient.results import Record, Slot

from dlload.protocols.base import Outcome

_MAX_ERROR = 300
"""Characters of an error text that are kept; some quote what was sent."""


def record_of(
    *,
    phase: str,
    started: float,
    slot: Slot,
    due: float,
    exchange: Exchange,
    outcome: Outcome,
    bytes_sent: int,
    share: int = 0,
    reload_s: float | None = None,
    reload_counts: bool = False,
) -> Record:
    """Times (`started`, `due` and the exchange's) become seconds since the phase started, to the microsecond."""
    first_byte = exchange.first_byte
    return Record(
        phase=phase,
        index=slot.index,
        due_s=round(due - started, 6),
        sent_s=round(exchange.sent - started, 6),
        first_byte_s=None if first_byte is None else round(first_byte - started, 6),
        done_s=round(exchange.done - started, 6),
        status=exchange.status,
        error=(exchange.error or outcome.error)[:_MAX_ERROR],
        model=slot.model,
        image=slot.images[0],
        bytes_sent=bytes_sent,
        images=len(slot.images),
        worker=outcome.worker,
        cache=outcome.cache,
        batch_size=outcome.batch_size,
        server_s=outcome.server_s,
        stages=outcome.stages,
        reused=exchange.reused,
        share=share,
        reload_s=None if reload_s is None else round(reload_s, 6),
        reload_counts=reload_counts,
        answer=outcome.answer,
    )
