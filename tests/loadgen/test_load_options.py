"""dlload.load_options: what each way of saying when to send means, and what is said of those that contradict."""

import argparse
import math
from pathlib import Path
from typing import Any

import pytest
from dlclient.results import Seeds
from dlload.arrivals import Course, Piece
from dlload.errors import OptionError
from dlload.load_options import LoadOptions, WarmUp, with_gaps
from dlload.options import StreamOptions, add_options, read_options
from dlload.plan import AtOnce, Closed, Intervals, Load, Open

HOST = "http://127.0.0.1:8080"
EVER = Course((Piece(math.inf, 200, 200),))


def parsed(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(arguments)


def options(*arguments: str, **fields: Any) -> StreamOptions:
    """`fields`: as the web page's form sets them."""
    given = parsed(*arguments)
    vars(given).update(fields)
    return read_options(given, HOST)


def load(*arguments: str, **fields: Any) -> LoadOptions:
    return options(*arguments, **fields).load


def test_nothing_means_a_closed_loop_with_the_defaults() -> None:
    assert load() == LoadOptions()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("", Closed(500)),
        ("--requests 7", Closed(7)),
        ("--requests 7 --think 0.5", Closed(7, "constant", 0.5)),
        ("--think exp:0.5", Closed(500, "exponential", 0.5)),
        ("--rate 200", Open(EVER, "poisson", 500, None, "200/s poisson")),
        ("--rate 200 --requests 9", Open(EVER, "poisson", 9, None, "200/s poisson")),
        ("--rate 200 --duration 30", Open(EVER, "poisson", None, 30.0, "200/s poisson")),
        ("--rate 200 --arrivals gamma:2", Open(EVER, "gamma:2", 500, None, "200/s gamma:2")),
        ("--rate 1:2:1", Open(Course((Piece(20, 1, 1), Piece(20, 2, 2))), name="1:2:1/s poisson")),
        ("--rate 1:2:1 --step-time 5", Open(Course((Piece(5, 1, 1), Piece(5, 2, 2))), name="1:2:1/s poisson")),
        ("--rate 1..2/9", Open(Course((Piece(9, 1, 2),)), name="1..2/9/s poisson")),
        ("--intervals gaps", Intervals((), 500, None)),
        ("--intervals gaps --requests 3", Intervals((), 3, None)),
        ("--intervals gaps --duration 2", Intervals((), None, 2.0)),
        ("--trace t.csv", Intervals((), None, None, "trace")),
        ("--trace t.csv --requests 50", Intervals((), 50, None, "trace")),
        ("--scenario SingleStream", Closed(500)),
        ("--scenario SingleStream --think 1", Closed(500, "constant", 1.0)),
        ("--scenario MultiStream --requests 9", Closed(9)),
        ("--scenario Server --rate 200", Open(EVER, "poisson", 500, None, "200/s poisson")),
        ("--scenario Offline", AtOnce(500)),
        ("--scenario Offline --requests 9", AtOnce(9)),
    ],
)
def test_options_mean_this_load(arguments: str, wanted: Load) -> None:
    assert load(*arguments.split()).load == wanted


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ("--plan out", LoadOptions(plan=Path("out"))),
        ("--plan out --speed 2", LoadOptions(plan=Path("out"), speed=2.0)),
        ("--drop-after 0.5 --plan out", LoadOptions(plan=Path("out"), drop_after_s=0.5)),
        ("--max-send-lag 5", LoadOptions(max_send_lag_s=0.005)),
        ("--tail 3", LoadOptions(tail_s=3.0)),
        ("--warmup none", LoadOptions()),
        ("--warmup 0", LoadOptions()),
        ("--warmup 5s", LoadOptions(warm_up=WarmUp(seconds=5.0))),
        ("--warmup .5s", LoadOptions(warm_up=WarmUp(seconds=0.5))),
        ("--warmup 200", LoadOptions(warm_up=WarmUp(requests=200))),
        ("--warmup auto", LoadOptions(warm_up=WarmUp(until_steady=True))),
        ("--seed 4", LoadOptions(seeds=Seeds.all(4))),
        ("--seed 4 --seed-models 0", LoadOptions(seeds=Seeds(schedule=4, models=0, images=4, think=4))),
        (
            "--seed-schedule 5 --seed-models 6 --seed-images 7 --seed-think 8",
            LoadOptions(seeds=Seeds(schedule=5, models=6, images=7, think=8)),
        ),
    ],
)
def test_options_mean_these_values(arguments: str, wanted: LoadOptions) -> None:
    assert load(*arguments.split()) == wanted


def test_multi_stream_is_eight_images_a_request_unless_it_is_told_otherwise() -> None:
    assert options("--scenario", "MultiStream").batch_size == 8
    assert options("--scenario", "MultiStream", "--batch-size", "4").batch_size == 4
    assert options("--scenario", "SingleStream").batch_size == 1
    with pytest.raises(OptionError, match="one image a request"):
        options("--scenario", "MultiStream", "--protocol", "raw")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--rate 5 --plan out", "--rate and --plan both say when requests are sent"),
        ("--rate 5 --intervals gaps", "--rate and --intervals both say"),
        ("--intervals gaps --trace t", "--intervals and --trace both say"),
        ("--plan out --trace t", "--plan and --trace both say"),
        ("--rate 5 --requests 9 --duration 3", "--requests and --duration both end a phase"),
        ("--speed 2", "--speed goes with --plan or --trace"),
        ("--rate 5 --speed 2", "change --rate instead"),
        ("--plan out --speed 0", "--speed 0.0: a number of times above 0"),
        ("--plan out --speed nan", "a number of times above 0"),
        ("--plan out --requests 5", "--plan says itself what is sent and when; drop --requests"),
        ("--plan out --think 1", "drop --think"),
        ("--plan out --scenario SingleStream", "drop --scenario"),
        ("--plan out --duration 5", "--duration is for --rate and --intervals"),
        ("--duration 5", "--duration is for --rate and --intervals"),
        ("--trace t --duration 5", "--duration is for --rate and --intervals"),
        ("--rate 5 --duration 0", "--duration 0.0: a number of seconds above 0"),
        ("--arrivals constant", "--arrivals constant needs --rate"),
        ("--intervals gaps --arrivals gamma:2", "--arrivals gamma:2 needs --rate"),
        ("--think 1 --rate 5", "--think is for the closed loop"),
        ("--think 1 --scenario Offline", "--think is for the closed loop"),
        ("--think 0", "--think 0: a number of seconds above 0"),
        ("--think exp:", "--think : a number of seconds above 0"),
        ("--think gamma:1", "write seconds, such as 0.5, or exp:0.5"),
        ("--scenario Server", "--scenario Server needs --rate"),
        ("--scenario Server --intervals gaps", "--scenario Server needs --rate"),
        ("--scenario Server --rate 5 --arrivals constant", "--scenario Server is Poisson"),
        ("--scenario Offline --rate 5", "--scenario Offline sets its own load; drop --rate"),
        ("--scenario SingleStream --intervals gaps", "drop --intervals"),
        ("--scenario MultiStream --trace t", "drop --trace"),
        ("--rate 1:2:1 --step-time 0", "--step-time 0.0: a number of seconds above 0"),
        ("--rate 5 --drop-after 0", "--drop-after 0.0: a number of seconds above 0"),
        ("--drop-after 1", "--drop-after is for the open loop"),
        ("--rate 5 --max-send-lag 0", "--max-send-lag 0.0: a number of milliseconds above 0"),
        ("--tail -1", "--tail -1.0: a number of seconds of 0 or more"),
        ("--tail inf", "a number of seconds of 0 or more"),
        ("--warmup 5m", "--warmup 5m: write 5s for seconds, 200 for requests, auto, or none"),
        ("--warmup -5", "--warmup -5: write 5s"),
        ("--warmup 0s", "--warmup 0: a number of seconds above 0"),
        ("--warmup 1.2.3s", "--warmup 1.2.3: a number of seconds above 0"),
        ("--warmup 99999999999", "write 5s for seconds"),
        ("--intervals ~nobody-of-that-name/gaps", "write the path in full"),
        ("--requests 0", "--requests 0: at least 1"),
        ("--rate fast", "--rate fast: 'fast' is no number"),
    ],
)
def test_what_cannot_be_or_contradicts_is_said(arguments: str, says: str) -> None:
    given = arguments.split()
    if given[0] == "--warmup":
        given = [f"--warmup={given[1]}"]  # else argparse takes -5 for an option
    with pytest.raises(OptionError) as caught:
        load(*given)
    assert says in str(caught.value)


NUMBERS = ("requests", "duration", "step_time", "speed", "drop_after", "max_send_lag", "tail", "seed_models")


def test_a_web_page_may_send_empty_fields() -> None:
    texts = ("rate", "arrivals", "intervals", "plan", "trace", "think", "scenario", "warmup")
    seeds = ("seed_schedule", "seed_models", "seed_images", "seed_think")
    assert load(**dict.fromkeys((*texts, *seeds, *NUMBERS), "")) == LoadOptions()


def test_a_web_page_sends_numbers_as_words() -> None:
    found = load(rate="200", duration="30", drop_after="0.5", max_send_lag="5", tail="1.5", seed_images="3", seed="2")
    assert found == LoadOptions(
        load=Open(EVER, "poisson", None, 30.0, "200/s poisson"),
        drop_after_s=0.5,
        max_send_lag_s=0.005,
        tail_s=1.5,
        seeds=Seeds(schedule=2, models=2, images=3, think=2),
    )


@pytest.mark.parametrize("name", [*NUMBERS, "seed"])
def test_a_web_page_that_sends_words_for_numbers_is_told_which(name: str) -> None:
    fields = {"rate": "5", name: "many"} if name not in {"speed", "requests"} else {name: "many"}
    with pytest.raises(OptionError, match=f"--{name.replace('_', '-')} many"):
        load(**fields)


def test_a_web_page_cannot_name_another_scenario() -> None:
    with pytest.raises(OptionError, match="--scenario Burst: not one; use SingleStream, MultiStream, Server, Offline"):
        load(scenario="Burst")


def test_the_gaps_of_a_file_become_the_load_and_keep_its_end(tmp_path: Path) -> None:
    file = tmp_path / "gaps.txt"
    file.write_text("100\n200\n")
    assert with_gaps(Intervals((), None, 2.0), file) == Intervals((100, 200), None, 2.0, "intervals of gaps.txt")
    assert with_gaps(Intervals((), 5), file) == Intervals((100, 200), 5, None, "intervals of gaps.txt")
    with pytest.raises(OptionError, match=r"cannot be read: .*; name a file with gaps in it"):
        with_gaps(Intervals((), 5), tmp_path / "nowhere")
    file.write_text("soon\n")
    with pytest.raises(OptionError, match=r"gaps.txt:1: 'soon' is no whole number of microseconds"):
        with_gaps(Intervals((), 5), file)
