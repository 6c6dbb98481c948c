"""Whether answers are right: those of a run beside those of a reference run. Pure."""

from collections.abc import Sequence

from dlclient.results import Reason, Record

KEPT_SHARE = 10
"""The content of every so manieth answer is kept, by the index of its slot."""


def is_kept(index: int) -> bool:
    """Whether the content of a slot's answer is kept."""
    return index % KEPT_SHARE == 0


def check(records: Sequence[Record], reference: Sequence[Record]) -> list[Reason]:
    """Every kept answer must be one that the reference gave to the same model and image, at any temperature.

    Of several images a request only the same slot is comparable.
    """
    expected: dict[tuple[object, ...], set[str]] = {}
    for record in reference:
        if record.ok and record.answer is not None:
            expected.setdefault(_key(record), set()).add(record.answer)
    kept = [record for record in records if record.ok and record.answer is not None]
    compared = [record for record in kept if _key(record) in expected]
    if not compared:
        text = f"none of {len(kept)} kept answers is to a model and an image of which the reference kept one"
        cure = "take a reference of the same models and images, at least as long, made with --keep-answers"
        return [Reason("answers-not-compared", text, cure)]
    wrong = [record for record in compared if record.answer not in expected[_key(record)]]
    if not wrong:
        return []
    first = wrong[0]
    said = " or ".join(sorted(expected[_key(first)]))
    text = (
        f"{len(wrong)} of {len(compared)} compared answers differ from the reference: to {first.image} {first.model} said "
        f"{first.answer!r}, not {said!r}"
    )
    cure = "see whether the server runs the same weights in the same precision; figures of wrong answers mean nothing"
    return [Reason("wrong-answers", text[:600], cure)]


def _key(record: Record) -> tuple[object, ...]:
    return (record.model, record.image) if record.images == 1 else (record.model, record.image, record.index)
