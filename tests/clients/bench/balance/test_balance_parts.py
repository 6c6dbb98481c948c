"""The pure parts of `dlbench balance`: profiles, plans' speed, figures, agreement, options, the folder."""

import argparse
import csv
import math
import random
from pathlib import Path

import msgspec
import pytest
from dlclient.balance_result import CELLS_FILE, Figures, read_balance, read_cells
from dlclient.bench.balance.figures import Answered, agreement, expected, figures, is_sharp, middle_run, spread
from dlclient.bench.balance.folder import BalanceFolder
from dlclient.bench.balance.model import most_in_flight, play
from dlclient.bench.balance.options import BalanceOptions, add_options, read_options
from dlclient.bench.balance.plans import speed
from dlclient.bench.balance.profiles import MIB, PROFILES, budget_mb, forwards_s, write_models
from dlclient.errors import LocalServerError, ResultError, SuiteError
from dlclient.results import Latency, Slot
from dlmodels.engines.simulated import parse_profile
from dlmodels.repository import scan

from tests.dashboards.made_balance import balance, cell, drawn, where, write

PUBLISHED = Path(__file__).parents[4] / "dashboards/reference/published.csv"


def options(*arguments: str) -> BalanceOptions:
    """What the command line says."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_options(parser.parse_args(arguments))


def test_the_profiles_are_the_published_figures() -> None:
    with PUBLISHED.open(newline="") as file:
        rows = {row["ref_id"]: float(row["value"] or "nan") for row in csv.DictReader(file)}
    for profile in PROFILES:
        size, one, sixty_four = (rows[reference] for reference in profile.source.split(", "))
        assert (profile.bytes, profile.forward_s) == (size * MIB, one / 1000)
        assert profile.forward_64_s == sixty_four / 1000


def test_a_forward_grows_evenly_up_to_the_batch_of_64() -> None:
    profile = PROFILES[0]
    times = forwards_s(profile, 10.0)
    assert len(times) == 32
    assert times[0] == 10 * profile.forward_s
    step_s = times[1] - times[0]
    assert times[0] + 63 * step_s == pytest.approx(10 * profile.forward_64_s)


def test_the_models_are_written_as_the_server_reads_them_scaled(tmp_path: Path) -> None:
    write_models(PROFILES, tmp_path, 10.0, 2e9)
    specs = {spec.name: parse_profile(spec) for spec in scan(tmp_path)}
    assert set(specs) == {profile.name for profile in PROFILES}
    for profile in PROFILES:
        assert specs[profile.name].load_s == pytest.approx(10 * profile.bytes / 2e9)
        assert specs[profile.name].forward_s == forwards_s(profile, 10.0)


def test_the_budget_holds_all_models_or_a_third_of_their_bytes() -> None:
    total = sum(profile.bytes for profile in PROFILES)
    assert budget_mb(PROFILES, "all") * MIB == total
    assert total <= 3 * budget_mb(PROFILES, "third") * MIB < total + 3 * MIB
    assert budget_mb(PROFILES, "third") * MIB > max(profile.bytes for profile in PROFILES)


def test_a_load_is_work_offered_over_what_the_workers_can_do_one_image_at_a_time() -> None:
    plan = tuple(Slot(number, "vgg16", (), due_s=float(number + 1)) for number in range(10))  # one per second
    vgg16 = next(profile for profile in PROFILES if profile.name == "vgg16")
    assert speed(plan, 0.8, 8, PROFILES, 10.0) == pytest.approx(0.8 * 8 / (10 * vgg16.forward_s))


def test_figures_are_of_what_was_due_after_the_caches_settled_in_the_order_of_time() -> None:
    answers = [Answered(float(due), 0.5 + due / 100, 0.1, due % 2 == 0) for due in (3, 1, 2, 0)]
    found = figures(answers, 6, 2, settling_s=2.0)
    assert (found.requests, found.errors, found.loads, found.hit_rate) == (2, 2, 2, 0.5)
    assert found.latency_s.mean == pytest.approx(0.525)
    assert found.wait_s == pytest.approx(0.425)
    with pytest.raises(LocalServerError, match="more requests"):
        figures(answers, 6, 0, settling_s=9.0)


def test_how_many_were_in_flight_counts_one_that_ends_before_one_that_begins_at_the_same_time() -> None:
    assert most_in_flight([Answered(0.0, 1.0, 0.1, warm=True), Answered(1.0, 1.0, 0.1, warm=True)]) == 1
    assert most_in_flight([Answered(0.0, 1.1, 0.1, warm=True), Answered(1.0, 1.0, 0.1, warm=True)]) == 2


def of(mean_s: float, p99_s: float | None) -> Figures:
    """Figures with these two."""
    latency = Latency(mean=mean_s, p50=mean_s, p90=None, p99=p99_s)
    return Figures(requests=700, errors=0, latency_s=latency, wait_s=0.0, wait_interval_s=None, hit_rate=1.0, loads=0)


@pytest.mark.parametrize(
    ("runs", "within", "said"),
    [
        ([of(1.05, 2.1), of(1.05, 2.1)], True, "within 10%"),
        ([of(1.2, 2.0), of(0.95, 2.0), of(1.7, 2.0)], False, "mean +25%, can be chance; p50 +25%, can be chance"),
        ([of(1.2, 2.0), of(1.19, 2.0), of(1.21, 2.0)], False, "mean +20%, more than chance"),
        ([of(1.0, 1.5), of(1.0, 1.51), of(1.0, 1.49)], False, "p99 -25%, more than chance"),
        ([of(1.0, None), of(1.0, 2.0)], True, "within 10%"),
    ],
)
def test_the_agreement_says_whether_a_difference_can_be_chance(runs: list[Figures], within: bool, said: str) -> None:
    judged = agreement([of(1.0, 2.0)], runs)
    assert judged.within is within
    assert judged.text.startswith(said)
    assert set(judged.ratios) == {"mean", "p50"} | ({"p99"} if runs[0].latency_s.p99 else set())
    assert set(judged.real_s) == set(judged.ratios)


def test_the_agreement_of_several_runs_is_of_their_geometric_means_and_as_sure_as_it_says() -> None:
    judged = agreement([of(1.0, 2.0), of(4.0, 2.0)], [of(2.0, 2.0), of(2.0, 2.1)])
    assert judged.real_s["mean"] == pytest.approx(2.0)
    assert judged.ratios["mean"][1] == pytest.approx(1.0)
    assert judged.rounds == 2
    draws = random.Random(6)
    inside, widths = 0, []
    for _ in range(1000):
        model, real = ([of(draws.lognormvariate(0.0, 0.1), None) for _ in range(runs)] for runs in (10, 5))
        low, middle, high = agreement(real, model).ratios["mean"]
        inside += low <= 1 <= high
        widths.append(high / middle)
    assert inside / 1000 == pytest.approx(0.95, abs=0.025)
    assert sum(widths) / 1000 < expected([one.latency_s.mean or 0.0 for one in model])[2]  # than one run alone


def test_a_cell_runs_again_for_as_long_as_its_interval_is_wider_than_a_tenth_wherever_its_middle_lies() -> None:
    alike = [of(1.0, 2.0), of(1.01, 2.0), of(0.99, 2.0)]
    assert is_sharp(agreement([of(5.0, 2.0)], alike))
    assert not is_sharp(agreement([of(1.0, 2.0)], [of(0.9, 2.0), of(1.1, 2.0), of(1.0, 2.0)]))
    assert not is_sharp(agreement([of(1.0, 1.5), of(1.0, 2.5)], alike))


def test_the_figures_of_a_cell_are_of_the_run_in_the_middle() -> None:
    runs = [of(3.0, 1.0), of(1.0, 1.0), of(2.0, 1.0), of(4.0, 1.0)]
    assert middle_run(runs) is runs[2]
    assert middle_run(runs[:3]) is runs[2]
    assert middle_run(runs[:1]) is runs[0]


def test_one_more_run_lies_in_the_interval_that_is_expected_as_often_as_it_says() -> None:
    draws = random.Random(6)
    inside = 0
    for _ in range(2000):
        low, middle, high = expected([draws.lognormvariate(0.0, 0.3) for _ in range(10)])
        assert low < middle < high
        inside += low <= draws.lognormvariate(0.0, 0.3) <= high
    assert inside / 2000 == pytest.approx(0.95, abs=0.02)


def test_the_spread_is_of_all_runs_and_knows_what_some_of_them_do_not_tell() -> None:
    found = spread([of(1.0, 3.0), of(0.8, 3.5), of(1.25, None)], 0.01, 0.002)
    assert (found.runs, found.p99_s, found.hit_rate) == (3, None, 1.0)
    assert found.mean_s[1] == pytest.approx(1.0)
    assert found.mean_s[0] < 0.8
    assert found.mean_s[2] > 1.25


@pytest.mark.parametrize(("slope", "growth"), [(0.0, None), (0.001, None), (0.05, 3.6)])
def test_a_cell_whose_latency_grows_all_through_has_no_steady_state(slope: float, growth: float | None) -> None:
    draws = random.Random(2)
    answers = [Answered(due / 10, 1.0 + slope * due / 10 + draws.random() / 10, 0.1, warm=True) for due in range(1000)]
    found = figures(answers, 1000, 0, settling_s=0.0).growth
    assert found is None if growth is None else found == pytest.approx(growth, rel=0.2)


def test_the_cells_are_every_policy_in_every_scenario_and_a_part_of_them_in_processes() -> None:
    asked = options("--workers", "8,64", "--real", "uniform@0.5")
    cells = asked.wheres()
    assert set(asked.policies) >= {"predicted", "least-loaded", "round-robin", "random", "two-choices", "affinity"}
    scenarios = 2 * 3 * 2
    assert len(cells) == len({one.id for one in cells}) == len(asked.policies) * (2 * scenarios + 2)
    real = [one for one in cells if one.source == "real"]
    assert {(one.mix, one.load, one.workers) for one in real} == {("uniform", 0.5, 8)}
    assert {one.residency for one in real} == {"all", "third"}
    assert asked.requests_of(cells[0]) * 8 == asked.requests_of(next(one for one in cells if one.workers == 64))
    assert len(options("--real", "all").wheres()) == 2 * scenarios * len(asked.policies)
    assert all(one.source == "model" for one in options("--real", "none").wheres())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--policies", "best"), "'best' is none of predicted"),
        (("--residency", "half"), "'half' is none of all, third"),
        (("--loads", "many"), "--loads many"),
        (("--workers", "0"), "from 1 to 1024"),
        (("--real", "zipf"), "write MIX@LOAD"),
        (("--real", "uniform@0.7"), "not among the --mixes and --loads"),
        (("--scale", "0"), "--scale 0"),
        (("--mixes", ","), "at least one policy"),
        (("--seed", "-1"), "--seed -1"),
    ],
)
def test_bad_options_are_said(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(SuiteError, match=said):
        options(*arguments)


def test_a_folder_goes_on_where_it_was_and_only_with_the_same_settings(tmp_path: Path) -> None:
    write(tmp_path, [cell(where(), 0.1)], finished=False)
    with (tmp_path / CELLS_FILE).open("ab") as file:
        file.write(b'{"id": "torn')
    with BalanceFolder(tmp_path, balance(cells=2), resume=True) as folder:
        assert set(folder.done) == {where().id}
        folder.append(cell(where("random"), 0.2))
        folder.finish()
    assert [one.where.policy for one in read_cells(tmp_path)] == ["predicted", "random"]
    assert read_balance(tmp_path).finished is not None
    for made, resume, said in (
        (balance(), False, "add --resume"),
        (balance(seed=4), True, "another seed"),
    ):
        with pytest.raises(ResultError, match=said), BalanceFolder(tmp_path, made, resume=resume):
            pass


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ResultError, match="something else"), BalanceFolder(tmp_path, balance(), resume=True):
        pass


def test_a_folder_has_one_writer(tmp_path: Path) -> None:
    with (
        BalanceFolder(tmp_path, balance(), resume=False),
        pytest.raises(ResultError, match="another dlbench"),
        BalanceFolder(tmp_path, balance(), resume=True),
    ):
        pass


def test_the_model_plays_a_plan_at_a_speed_and_says_what_is_wrong(tmp_path: Path) -> None:
    write_models(PROFILES, tmp_path, 1.0, 1e9)
    plan = [Slot(number, "nin", (), due_s=float(number)) for number in range(20)]
    served = ("--models-dir", str(tmp_path), "--workers", "1", "--cache-mb", "100")
    played = play(served, ["nin"], plan, 10.0, 0.0, overhead_s=0.5)
    nin = next(profile for profile in PROFILES if profile.name == "nin")
    assert played.figures.latency_s.mean == pytest.approx(nin.forward_s + 0.5)
    assert played.most_in_flight == 6
    with pytest.raises(LocalServerError, match="--workers"):
        play(served[:2], ["nin"], plan, 10.0, 0.0)


def test_a_cell_is_the_same_after_it_was_written(tmp_path: Path) -> None:
    made = cell(where("random", "real"), 0.1)
    write(tmp_path, [made])
    (read,) = read_cells(tmp_path)
    assert read == made
    assert read.figures is not None
    assert not math.isnan(read.figures.wait_s)
    assert drawn(0.1) == msgspec.convert(msgspec.to_builtins(drawn(0.1)), Figures)
