"""How far a bench is: estimates by what points took, a bar where somebody looks at it."""

import io

import pytest
from dlclient.bench.progress import BenchProgress, remaining_s, spoken


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("took_s", "left", "elapsed_s", "expected"),
    [([], 5, 3.0, None), ([10.0], 3, 0.0, 30.0), ([10.0, 20.0], 2, 5.0, 25.0), ([10.0], 1, 60.0, 0.0), ([10.0], 3, 60.0, 20.0)],
)  # fmt: skip
def test_what_is_left_takes_as_long_as_what_is_done(
    took_s: list[float], left: int, elapsed_s: float, expected: float | None
) -> None:
    assert remaining_s(took_s, left, elapsed_s) == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(40.4, "40 s"), (89.0, "89 s"), (100.0, "2 min"), (3599.0, "1 h 0 min"), (7799.0, "2 h 10 min")],
)
def test_durations_are_spoken_as_people_do(seconds: float, expected: str) -> None:
    assert spoken(seconds) == expected


def test_a_terminal_has_a_bar_with_an_estimate_and_the_lines_of_points_above_it() -> None:
    times = iter([0.0, 0.0, 0.0, 5.0, 10.0, 10.0, 10.0])
    terminal = Terminal()
    progress = BenchProgress(4, 1, terminal, [20.0], clock=lambda: next(times))
    progress.begin("vgg16")
    progress.watch("measure", 0.5)
    progress.end("12 ms")
    progress.begin("vgg19")
    drawn = terminal.getvalue().split("\r\x1b[K")
    assert drawn[1] == "[#####...............] 1/4, about 60 s left: vgg16: start"
    assert drawn[2] == "[#####...............] 1/4, about 55 s left: vgg16: measure 50%"
    assert drawn[3] == "[2/4] vgg16: 12 ms\n"
    assert drawn[4] == "[##########..........] 2/4, about 30 s left: vgg19: start"


def test_elsewhere_there_is_a_line_for_each_point_and_no_more() -> None:
    stream = io.StringIO()
    progress = BenchProgress(2, 0, stream)
    progress.begin("vgg16")
    progress.watch("load", None)
    progress.end("12 ms")
    progress.clear()
    assert stream.getvalue() == "[1/2] vgg16: 12 ms\n"
