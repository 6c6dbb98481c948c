"""dlserve.pulse: how long a process has stood still, for somebody who is held up at times himself."""

import pytest
from dlserve.pulse import BEAT_S, Pulse, look_every_s


def silence(every_s: float, *looks: tuple[int, float]) -> float:
    """After these looks: (beats, when)."""
    pulse = Pulse(every_s)
    for beats, at in looks:
        pulse.look(beats, at)
    return pulse.silent_s


def test_whoever_beats_between_two_looks_lives() -> None:
    assert silence(1.0, (0, 10.0)) == 0.0
    assert silence(1.0, (5, 10.0), (6, 11.0), (7, 300.0)) == 0.0


def test_the_time_without_a_beat_adds_up_and_one_beat_ends_it() -> None:
    still = [(5, 10.0 + second) for second in range(8)]
    assert silence(1.0, *still) == pytest.approx(7.0)
    assert silence(1.0, *still, (6, 18.0)) == 0.0
    assert silence(1.0, *still, (6, 18.0), (6, 19.5)) == pytest.approx(1.5)


def test_a_time_in_which_nobody_looked_counts_as_two_looks_at_most() -> None:
    assert silence(1.0, (5, 10.0), (5, 500.0)) == pytest.approx(2.0)


def test_a_new_process_that_begins_to_count_anew_beats() -> None:
    assert silence(1.0, (50, 10.0), (50, 11.0), (0, 12.0)) == 0.0


@pytest.mark.parametrize("timeout_s", [1.0, 5.0, 30.0, 600.0])
def test_every_look_should_see_a_beat_and_a_time_out_is_noticed_soon(timeout_s: float) -> None:
    assert 2 * BEAT_S <= look_every_s(timeout_s) <= max(timeout_s / 10, 2 * BEAT_S)
