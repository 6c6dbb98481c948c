"""What the tables of a bench say, from points whose figures are known beforehand."""

from pathlib import Path

import msgspec
import pytest
from dlclient.bench_result import Bench, Card, Load, Point, Setting
from dlclient.results import Gpu, Reason
from dlreport.bench.answer import amount, answer, lead, stamps
from dlreport.bench.beside import comparability, deepdetect_rows
from dlreport.bench.busy import busy_table
from dlreport.bench.cost_table import cost_table
from dlreport.bench.facts import facts
from dlreport.bench.grid import gain_table, times_table
from dlreport.bench.largest import largest_table
from dlreport.bench.loads import load_table
from dlreport.bench.network import NAMESAKES, rightness
from dlreport.bench.points_table import doubts_table, failures_table, points_table
from dlreport.bench.published_table import published_table
from dlreport.bench.right import accuracy_table, pareto, standings, tradeoff_table
from dlreport.bench.sweep import sweep_table, sweeps
from dlreport.bench.variant import common, variants
from dlreport.bench.view import BenchView, chunks, load_bench, per_image_s
from dlreport.errors import NotAResultError
from dlreport.published import load_published
from dlreport.table import Cell, Row, Table, to_csv, to_markdown

from tests.dashboards.bench import builder
from tests.dashboards.bench.builder import BenchResult, failed, point

WRONG = Reason("not-steady", "the windows never agreed", "close other programs")


def view(*points: Point, finished: bool = True, **changes: object) -> BenchView:
    """A bench of these points, without a folder."""
    bench = Bench(
        schema="", kind="bench", program="dlbench", name="n", title="t", started="2026-11-23T01:00:00+00:00",
        finished="2026-11-23T02:00:00+00:00" if finished else None, points=len(points) + (0 if finished else 2),
        command=("dlbench", "run", "n"), environment=builder.ENVIRONMENT,
    )  # fmt: skip
    return BenchView(msgspec.structs.replace(bench, **changes), points)


def rows(table: Table | None) -> list[dict[str, Cell]]:
    """The cells of each row by their column's key."""
    assert table is not None
    return [{column.key: cell for column, cell in zip(table.columns, row.cells, strict=True)} for row in table.rows]


def row(table: Table | None, **wanted: object) -> dict[str, Cell]:
    """The one row with these values."""
    (found,) = (one for one in rows(table) if all(one[key].value == value for key, value in wanted.items()))
    return found


def at(model: str = "a", batch: int = 1, **more: object) -> Setting:
    return msgspec.structs.replace(Setting(model=model, engine="torch", batch_size=batch), **more)


# --- time per image -------------------------------------------------------------------------------------------------


def test_a_time_per_image_is_the_mean_of_a_batch_over_its_size_and_wall_time_where_several_are_in_flight() -> None:
    alone = point(at(batch=4), 0.1)
    several = point(at(batch=4, question="throughput", in_flight=8), 0.1, images_per_s=50.0)
    assert per_image_s(alone) == pytest.approx(0.025)
    assert per_image_s(several) == pytest.approx(0.02)
    assert per_image_s(failed(at())) is None


def test_the_table_has_a_row_a_network_and_a_column_a_batch_and_an_x_says_why() -> None:
    table = times_table(
        view(point(at("a", 1), 0.010), point(at("a", 8), 0.040), point(at("b", 1), 0.020), failed(at("b", 8)))
    )
    first, second = rows(table)
    assert (first["batch_1_s"].text, first["batch_8_s"].text) == ("10.0", "5.00")
    assert first["batch_8_s"].value == pytest.approx(0.005)
    assert second["batch_8_s"].text == "x"
    assert second["batch_8_s"].value is None
    assert second["batch_8_s"].hover.startswith("out of memory in stage warm-up: batch 8 needs more memory")


def test_devices_are_groups_of_rows_with_their_hardware() -> None:
    table = times_table(view(*builder.ladder(("vgg16",), batches=(1, 2)), reproduces="dli"))
    assert [(one["measured_on"].text, one["hardware"].text) for one in rows(table)] == [
        ("cpu", "Example CPU 8000"),
        ("cuda:0", "Example GPU 16 GB"),
    ]


def test_a_figure_that_is_not_to_quote_and_one_of_a_simulated_device_say_so_beside_the_number() -> None:
    wrong = point(at("a", 1), 0.01, reasons=(WRONG,))
    made_up = point(at("a", 2), 0.01, simulated=True)
    (only,) = rows(times_table(view(wrong, made_up)))
    assert (only["batch_1_s"].note, only["batch_1_s"].tone) == ("do not quote", "doubt")
    assert only["batch_1_s"].hover == "the windows never agreed: close other programs."
    assert only["batch_2_s"].note == "simulated"


def test_what_deepdetect_published_stands_below_with_hardware_class_and_definition() -> None:
    seen = view(*builder.ladder(("vgg16", "resnet50_caffe"), ("cpu",), (1, 64)), reproduces="dd_performances")
    published = row(times_table(seen), hardware="GTX 1080 Ti", model="resnet50_caffe")
    assert published["batch_1_s"].value == pytest.approx(0.0198)
    assert published["batch_64_s"].text == "x"
    assert published["batch_64_s"].hover == "published: did not run (memory)"
    assert published["measured_on"].text == "GTX 1080 Ti (published; other, older hardware)"
    assert published["definition"].text == "mean of 5 passes / batch size, fp32"
    assert published["comparability"].text == "B"
    assert "another timed scope than here (model)" in str(published["remark"].value)


def test_a_class_stays_only_where_network_scope_mode_and_precision_are_the_same() -> None:
    (published,) = (one for one in load_published() if one.ref_id == "dd-gtx1080ti-res50-b1")
    same, kin = NAMESAKES["dd_performances"]["resnet50_caffe"], NAMESAKES["dd_performances"]["resnet50"]
    server = point(at("resnet50_caffe"), 0.01, scope="server")
    assert comparability(published, same, [server]) == ("A", "")
    assert comparability(published, kin, [server])[1] == "a network of the same design, not the same one"
    assert comparability(published, same, [point(at(), 0.01)])[0] == "B"
    half = msgspec.structs.replace(server, setting=at(precision="fp16"))
    assert comparability(published, same, [half]) == ("B", "another precision than here (fp16)")
    many = msgspec.structs.replace(server, setting=at(question="throughput", in_flight=4))
    assert comparability(published, same, [many]) == ("B", "another mode than here")


def test_only_the_benchmark_that_is_reproduced_stands_beside_its_suite() -> None:
    points = builder.ladder(("vgg16",), ("cpu",), (1,))
    assert deepdetect_rows(view(*points, reproduces="cortex")) == []
    assert {one.hardware for one in deepdetect_rows(view(*points))} >= {"GTX 1080 Ti", "Jetson TX1"}


def test_the_gain_is_time_per_image_at_the_smallest_batch_over_the_least() -> None:
    points = [point(at("a", size), seconds) for size, seconds in ((1, 0.010), (2, 0.012), (4, 0.040))]
    (only,) = rows(gain_table(view(*points, failed(at("a", 8)))))
    assert (only["first_batch"].value, only["best_batch"].value) == (1, 2)
    assert only["gain"].value == pytest.approx(0.010 / 0.006)
    assert gain_table(view(points[0], failed(at("a", 8)))) is None


# --- the other questions --------------------------------------------------------------------------------------------


def test_a_cost_is_the_catalogs_then_what_was_published_then_what_the_weights_weigh() -> None:
    card = point(at("vgg16"), 0.1, card=Card(macs=7_000_000_000, parameters=5_000_000))
    published = point(at("vgg19"), 0.1)
    own = point(at("mine"), 0.1, model_bytes=40_000_000)
    table = cost_table(view(card, published, own))
    by_name = {str(one["model"].value): one for one in rows(table)}
    assert by_name["vgg16"]["macs"].text == "7.000"
    assert by_name["vgg16"]["macs_per_s"].value == pytest.approx(7e9 / 0.101)
    assert by_name["vgg19"]["macs"].value == 19_632_000_000
    assert by_name["vgg19"]["source"].text == "published by DeepDetect's report"
    assert (by_name["mine"]["macs"].text, by_name["mine"]["parameters"].value) == ("missing", 10_000_000)


def test_the_largest_batch_says_where_nothing_failed_and_what_was_tried() -> None:
    table = largest_table(view(*builder.largest(("squeezenet1_1", "vgg16"), ("cpu",))))
    first, second = rows(table)
    assert first["largest"].text == "at least 406"
    assert second["smallest_failed"].value == int(str(second["largest"].value)) + 1
    assert second["tries"].text == "fit: 1, 2, 4, 8, 16, 32; out-of-memory: 64"


def test_accuracy_has_its_intervals_and_its_data_set() -> None:
    (only,) = rows(accuracy_table(view(*builder.rightness(("vgg16",)))))
    assert only["top1"].value == pytest.approx(0.693)
    assert only["top1"].note == "[68.0, 70.6]"
    assert only["dataset"].text == "imagenet-val 0123abcd"


@pytest.mark.parametrize(
    ("pairs", "front"),
    [
        ([(1.0, 1.0), (2.0, 2.0)], {1}),
        ([(1.0, 2.0), (2.0, 1.0)], {0, 1}),
        ([(1.0, 1.0), (1.0, 2.0), (1.0, 2.0)], {1, 2}),
        ([], set()),
    ],
)
def test_on_the_front_is_what_no_other_beats_in_both(pairs: list[tuple[float, float]], front: set[int]) -> None:
    assert pareto(pairs) == front


def test_measured_accuracy_goes_before_published_and_says_which_it_is() -> None:
    seen = view(*builder.ladder(("vgg16", "vgg19", "squeezenet1_1"), ("cuda:0",), (1,)), *builder.rightness(("vgg16",)))
    found = {one.model: one for one in standings(seen, seen.speed_variants[0])}
    assert (found["vgg16"].rightness.measured, found["vgg19"].rightness.measured) == (True, False)
    assert found["vgg16"].rightness.source == "measured on 5,000 images of imagenet-val 0123abcd"
    assert {name for name, one in found.items() if one.front} == {"vgg19", "squeezenet1_1", "vgg16"}
    assert row(tradeoff_table(seen), model="vgg19")["top1_source"].text == "published by DeepDetect's report"


def test_nothing_is_said_of_the_accuracy_of_int8_that_nobody_measured() -> None:
    rounded = point(at("vgg16", precision="int8"), 0.01)
    assert rightness("vgg16", "int8", (rounded,)) is None
    assert rightness("vgg16", "fp32", (rounded,)) is not None


def test_the_best_setting_of_a_sweep_is_one_that_can_be_quoted() -> None:
    seen = view(*builder.sweep())
    (only,) = sweeps(seen)
    assert only.best is not None
    assert (only.best.setting.threads, only.best.setting.batch_size) == (8, 4)
    fastest = max(seen.good, key=lambda one: one.images_per_s or 0.0)
    assert fastest.reasons
    (told,) = rows(sweep_table(seen))
    assert (told["threads"].value, told["batch_size"].value, told["failed"].value) == (8, 4, 1)


def test_load_times_are_summed_to_the_first_answer_and_compared_with_a_warm_one() -> None:
    good, broken = rows(load_table(view(*builder.loads(("vgg16",)))))
    parts = sum(float(str(good[key].value)) for key in ("prepare_s", "load_s", "first_run_s"))
    assert good["cold_s"].value == pytest.approx(parts)
    assert good["cold_over_warm"].value == pytest.approx(parts / float(str(good["warm_s"].value)))
    assert good["again_s"].note == "median of 5"
    assert broken["start_s"].text == "x"


def test_dlis_figures_stand_beside_ours_by_dlis_definition() -> None:
    table = published_table(view(*builder.matrix(), reproduces="dli"))
    mine = [one for one in rows(table) if one["source"].text.startswith("this bench")]
    theirs = [one for one in rows(table) if one["source"].text == "dli (published)"]
    assert theirs
    assert {one["hardware"].text for one in theirs} == {"i7-8700, 6 cores / 12 threads"}
    assert all("other, older hardware" in one["remark"].text for one in theirs)
    first = next(one for one in mine if "resnet50" in one["figure"].text and "latency mode" in one["figure"].text)
    assert first["value"].value == pytest.approx(1 / (builder.forward_s("resnet50", "cpu", 1) * 0.98))
    assert not any("int8" in one["software"].text for one in mine)


def test_a_published_value_that_was_read_off_a_chart_says_so() -> None:
    table = published_table(view(*builder.ladder(("vgg16",), ("cpu",), (1,)), reproduces="cortex"))
    theirs = [one["remark"].text for one in rows(table) if one["source"].text == "cortex (published)"]
    assert theirs
    assert all("read off a chart (about 10 %)" in remark for remark in theirs)


# --- all points -----------------------------------------------------------------------------------------------------


def test_every_point_is_a_row_and_columns_without_a_figure_are_left_out() -> None:
    table = points_table(view(*builder.matrix(), *builder.sweep()))
    assert table is not None
    assert len(table.rows) == 24 + 20
    keys = {column.key for column in table.columns}
    assert {"engine", "precision", "mode", "in_flight", "threads", "dli_batch_fps"} <= keys
    assert not {"client_p50_s", "affinity", "errors"} & keys
    outcomes = [one["outcome"].text for one in rows(table)]
    assert outcomes.count("not supported") == 4
    assert outcomes.count("took too long") == outcomes.count("do not quote") == 1


def test_percentiles_are_given_only_where_there_are_enough_iterations() -> None:
    many, few = rows(points_table(view(point(at("a"), 0.01, iterations=200), point(at("b"), 0.01, iterations=20))))
    assert (many["p90_s"].text, few["p90_s"].text) == ("11.0", "n/a (n=20)")
    assert few["p50_s"].text == "9.80"
    assert "p99_s" not in few


def test_a_failed_point_is_a_row_with_its_kind_its_reason_and_its_log() -> None:
    lost = failed(at("b", 64), "time-out", stage="load", text="no answer; raise it")
    (only,) = rows(failures_table(view(point(at(), 0.01), lost)))
    texts = [only[key].text for key in ("model", "batch_size", "kind", "stage", "reason", "log")]
    assert texts == ["b", "64", "took too long", "load", "no answer; raise it", f"logs/{lost.id}.log"]


def test_reasons_and_warnings_are_rows_with_their_cure() -> None:
    found = rows(doubts_table(view(point(at(), 0.01, reasons=(WRONG,)), point(at("b"), 0.01, warnings=(WRONG,)))))
    assert [(one["standing"].text, one["cure"].text) for one in found] == [
        ("not to quote", "close other programs"),
        ("with a warning", "close other programs"),
    ]
    assert doubts_table(view(point(at(), 0.01))) is None


def test_how_many_were_in_flight_is_told_where_it_was_left_to_the_engine() -> None:
    own = point(at(question="throughput", in_flight=0), 0.01, images_per_s=9.0, read_back={"in_flight": 4})
    other = point(at(question="throughput", in_flight=0, batch_size=2), 0.01, images_per_s=9.0)
    table = points_table(view(own, other))
    assert [one["in_flight"].text for one in rows(table)] == ["4", "engine's own"]


def test_the_first_inferences_of_points_that_asked_something_else_are_told_too() -> None:
    load = Load(load_s=0.2, first_run_s=0.3)
    seen = view(point(at(batch=1), 0.01, load=load), point(at(batch=2), 0.01, load=load))
    (only,) = rows(load_table(seen))
    assert only["batch_size"].value == 1
    assert only["cold_s"].value == pytest.approx(0.5)


def test_a_bench_has_only_the_parts_that_its_points_ask_for() -> None:
    seen = view(*builder.loads(("vgg16",)))
    makers = (
        times_table,
        gain_table,
        cost_table,
        largest_table,
        accuracy_table,
        tradeoff_table,
        busy_table,
        sweep_table,
    )
    assert [maker(seen) for maker in makers] == [None] * len(makers)


# --- words ----------------------------------------------------------------------------------------------------------


def test_a_label_says_what_sets_points_apart_and_nothing_else() -> None:
    settings = [at(device="cpu"), at(device="cpu", threads=2), at(device="cpu", options={"streams": 2})]
    found = variants([point(one, 0.01) for one in settings], view().bench)
    assert [one.label for one in found] == ["torch, cpu", "2 threads", "streams 2"]
    assert dict(common([point(one, 0.01) for one in settings]))["device"] == "cpu"


def test_a_server_that_chooses_engine_and_device_is_called_by_its_address() -> None:
    (only,) = variants([point(Setting(model="a", device="", target="http://x:1"), 0.01)], view().bench)
    assert only.label == "http://x:1"


def test_points_that_no_label_sets_apart_still_have_two_names() -> None:
    found = variants(
        [point(at(affinity=""), 0.01), point(at(options={"x": ""}), 0.01), point(at(precision=""), 0.01)], view().bench
    )
    assert len({one.label for one in found}) == len(found) == 2


@pytest.mark.parametrize(
    ("setting", "server", "told"),
    [
        (at(device="cpu"), {}, "Example CPU 8000"),
        (at(device="cuda:0"), {}, "Example GPU 16 GB"),
        (at(device="cuda:3"), {}, "cuda:3"),
        (at(target="http://x:1"), {}, "a server (http://x:1) that does not tell its hardware"),
        (at(target="http://x:1"), {"dlserve": {"workers": [{"device_name": "H"}] * 2}}, "2 x H"),
        (at(target="http://x:1"), {"dlserve": "odd"}, "a server (http://x:1) that does not tell its hardware"),
    ],
)
def test_hardware_is_named_where_it_is_known(setting: Setting, server: dict[str, object], told: str) -> None:
    (only,) = variants([point(setting, 0.01)], view(server=server).bench)
    assert only.hardware == told


def test_the_headline_names_the_most_that_was_reached_by_a_figure_that_can_be_quoted() -> None:
    seen = view(point(at("a", 1), 0.02), point(at("b", 8), 0.08), point(at("c", 1), 0.001, reasons=(WRONG,)))
    assert answer(seen) == "At most 99.0 images/s: b at batch 8 on torch, cpu."
    assert lead(seen).startswith("Quickest at batch 1: a on torch, cpu, 20.0 ms per image.")
    assert amount(seen) == "3 points of 3 networks, none failed, 1 not to quote"


@pytest.mark.parametrize(
    ("points", "said"),
    [
        ((), "No point has been measured."),
        ((failed(at()),), "No point has figures: all failed."),
        (builder.largest(("vgg16",), ("cpu",)), "The largest batch that fits: at least 55 of vgg16."),
        (builder.loads(("vgg16",)), "Slowest from cold to its first answer: vgg16, 1,742 ms."),
        ((point(at(question="accuracy"), 0.01, images_per_s=None),), "1 point of 1 network."),
    ],
)
def test_a_headline_claims_no_more_than_there_is(points: tuple[Point, ...], said: str) -> None:
    assert answer(view(*points)) == said


def test_stamps_tell_what_is_simulated_and_what_is_not_finished() -> None:
    real, made_up = point(at(), 0.01), point(at("b"), 0.01, simulated=True)
    assert stamps(view(real)) == ()
    assert stamps(view(made_up)) == ("SIMULATED",)
    assert stamps(view(real, made_up)) == ("PARTLY SIMULATED",)
    assert stamps(view(real, finished=False)) == ("UNFINISHED",)
    assert stamps(view(simulated=True)) == ("SIMULATED",)


def test_a_merged_bench_lists_each_of_its_machines() -> None:
    other = msgspec.structs.replace(builder.ENVIRONMENT, host="bench-2", gpus=(Gpu("Other GPU", 1),))
    seen = view(point(at(), 0.01), machines={"one": builder.ENVIRONMENT, "two": other})
    assert [one.title for one in facts(seen)][-2:] == ["The machine one", "The machine two"]


def test_groups_of_series_are_even_and_no_larger_than_asked() -> None:
    assert [len(part) for part in chunks("abcdefghijklm", 5)] == [4, 4, 5]
    assert chunks("", 5) == []


# --- files ----------------------------------------------------------------------------------------------------------


def test_csv_holds_seconds_and_no_formula_and_markdown_what_is_printed() -> None:
    table = times_table(view(point(at("=cmd()"), 0.0123), reproduces="dli"))
    assert table is not None
    header, line = to_csv(table).splitlines()
    assert header.startswith("measured_on,hardware,model,batch_1_s")
    assert line.startswith('"torch, cpu",Example CPU 8000,\'=cmd(),0.0123')
    assert "12.3" in to_markdown(table)
    assert all(isinstance(one, Row) for one in table.rows)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"images_per_s": 1e30}, "which nothing measures"),
        ({"images_per_s": -1.0}, "which is below 0"),
        ({"setting": Setting(model="a", batch_size=0)}, "has a batch below 1"),
    ],
)
def test_numbers_that_nothing_measures_are_refused(tmp_path: Path, changes: dict[str, object], said: str) -> None:
    BenchResult([msgspec.structs.replace(point(at(), 0.01), **changes)]).write(tmp_path)
    with pytest.raises(NotAResultError, match=said):
        load_bench(tmp_path)
