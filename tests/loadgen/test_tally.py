"""dlload.tally: counts of a phase under way, beside those of going through all of its records."""

import random
from collections.abc import Sequence
from statistics import fmean

import pytest
from dlclient.results import Record
from dlload.tally import Tally


def record(latency_s: float = 0.01, error: str = "", images: int = 1, dropped: bool = False) -> Record:
    return Record(
        phase="warm",
        index=0,
        due_s=0.0,
        sent_s=0.0,
        first_byte_s=latency_s,
        done_s=latency_s,
        status=0 if error else 200,
        error=error,
        model="a",
        image="x.jpg",
        bytes_sent=1,
        images=images,
        dropped=dropped,
    )


def tally(records: Sequence[Record]) -> Tally:
    made = Tally()
    for one in records:
        made.add(one)
    return made


def steady(records: Sequence[Record]) -> bool:
    """By the definition: over the last 3 windows of a sixth of the good answers, or of 20."""
    good = [one.latency_s for one in records if one.ok]
    size = max(20, len(good) // 6)
    if len(good) < 3 * size:
        return False
    windows = [good[len(good) - count * size :][:size] for count in (3, 2, 1)]
    middle = fmean(good[-3 * size :])
    return all(abs(fmean(window) - middle) <= 0.1 * middle for window in windows)


def test_good_answers_errors_and_drops_are_counted_apart() -> None:
    made = tally(
        [record(images=8), record(error="HTTP 500", images=8), record(error="dropped", dropped=True), record()]
    )
    assert (made.images, made.errors, made.dropped) == (9, 2, 1)


@pytest.mark.parametrize("seed", range(5))
def test_steady_is_what_the_windows_of_all_records_say(seed: int) -> None:
    draw = random.Random(seed)
    records = []
    said = set()
    for number in range(400):
        level = 0.02 if number < 100 else 0.01  # warms up
        error = "HTTP 500" if draw.random() < 0.05 else ""
        records.append(record(level * draw.lognormvariate(0.0, 0.4), error))
        said.add(tally(records).steady)
        assert tally(records).steady == steady(records)
    assert said == {False, True}


def test_too_few_answers_are_not_steady() -> None:
    assert not tally([record()] * 59).steady
    assert tally([record()] * 60).steady
