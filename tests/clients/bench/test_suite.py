"""Reading suites: each key to its place, everything that is wrong at once, changes of the command line as if the file had them."""

import tomllib
from pathlib import Path

import pytest
import tomli_w
from dlclient.bench.changes import Change, parse_set
from dlclient.bench.problems import Source, Where, line_of
from dlclient.bench.reading import READY, find_suite, parse_suite, read_suite, ready_suites
from dlclient.bench.schema import suite_schema, suite_schema_text
from dlclient.bench.suite import Matrix, Suite, to_table
from dlclient.errors import SuiteError

BAD = """\
titel = "x"
target = "ftp://x"

[budget]
min_iterations = 2_000_000
min_iteration = 3

[[matrix]]
models = ["resnet50", 7]
batch_size = [1]
questions = "latncy"
devices = ["gpu"]

[[matrix]]
models = []
exclude = [{ models = "vgg16", batch = 3 }]
[matrix.options]
hint = [[1]]
"""
GOOD = """\
title = "Two matrices"
[budget]
max_s = 2
[[matrix]]
models = "vgg16"
batch_sizes = [1, 2]
[[matrix]]
models = ["vgg16", "vgg19"]
threads = 2
exclude = [{ models = "vgg16", options = { hint = "latency" } }]
options = { hint = ["latency", "throughput"], streams = 2 }
"""


def read(text: str, *sets: str) -> tuple[Suite, Source]:
    source = Source("my.toml", text)
    return parse_suite({"name": "my"} | tomllib.loads(text), source, parse_set(sets)), source


def test_every_error_of_a_suite_is_told_at_once_with_line_key_and_cure() -> None:
    _, source = read(BAD, "threads=1,x,foo=1", "budget.max_s=q")
    with pytest.raises(SuiteError, match=r"my.toml has 14 errors, and nothing was run") as raised:
        source.check()
    said = str(raised.value)
    for line in (
        "my.toml:1: titel: there is no key 'titel'. Did you mean 'title'? Valid are: matrix, name, title,",
        "my.toml:2: target: 'ftp://x' is not of its form: give \"inproc\" or the URL",
        "my.toml:5: budget, min_iterations: it is above max_iterations = 1000000: raise that, or lower this",
        "my.toml:6: budget, min_iteration: there is no key 'min_iteration'. Did you mean 'min_iterations'?",
        "my.toml:9: matrix 1, models: expected `str`, got `int` (value 2): give names of models",
        "my.toml:10: matrix 1, batch_size: there is no key 'batch_size'. Did you mean 'batch_sizes'?",
        "my.toml:11: matrix 1, questions: there is no question 'latncy'. Did you mean 'latency'?",
        "my.toml:12: matrix 1, devices: 'gpu' is not of its form: give \"cpu\"",
        "my.toml:15: matrix 2, models: an empty list makes no point",
        "my.toml:16: matrix 2, exclude: there is no key 'batch'. Did you mean 'batch_sizes'?",
        "my.toml:18: matrix 2, options.hint: expected",
        "--set threads=1,x: expected `int`, got `str` (value 2)",
        "--set foo=1: there is no key 'foo'",
        "--set budget.max_s=q: expected `float`, got `str`",
    ):
        assert f"\n  {line}" in said


def test_what_is_read_is_what_is_written_down_again(tmp_path: Path) -> None:
    suite, source = read(GOOD)
    source.check()
    assert suite.budget.max_s == 2.0
    assert suite.matrix[0] == Matrix(models="vgg16", batch_sizes=(1, 2))
    assert suite.matrix[1].options == {"hint": ("latency", "throughput"), "streams": 2}
    (tmp_path / "suite.toml").write_text(tomli_w.dumps(to_table(suite)))
    assert read_suite(tmp_path / "suite.toml")[0] == suite


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["models=a,b,batch_sizes=1,2"], [("models", ("a", "b")), ("batch_sizes", ("1", "2"))]),
        (["batch_sizes=1", "batch_sizes=2"], [("batch_sizes", ("1",)), ("batch_sizes", ("2",))]),
        (["options.hint=a"], [("options.hint", ("a",))]),
        (["images= x "], [("images", ("x",))]),
    ],
)
def test_a_set_may_hold_several_keys_and_each_several_values(
    texts: list[str], expected: list[tuple[str, tuple[str, ...]]]
) -> None:
    assert [(change.key, change.values) for change in parse_set(texts)] == expected


def test_a_set_without_a_key_is_refused() -> None:
    with pytest.raises(SuiteError, match="write --set batch_sizes=1,2"):
        parse_set(["resnet50"])


def test_changes_are_in_all_matrices_and_typed_as_their_keys() -> None:
    suite, source = read(
        GOOD,
        "models=resnet18,batch_sizes=4,8,options.cache=true,options.streams=3",
        "budget.max_s=1,profile=true,images=1",
    )
    source.check()
    assert [matrix.models for matrix in suite.matrix] == [("resnet18",)] * 2
    assert [matrix.batch_sizes for matrix in suite.matrix] == [(4, 8)] * 2
    assert suite.matrix[0].options == {"cache": (True,), "streams": (3,)}
    assert suite.matrix[1].options == {"hint": ("latency", "throughput"), "cache": (True,), "streams": (3,)}
    assert (suite.budget.max_s, suite.profile, suite.images) == (1.0, True, "1")


def test_an_error_of_a_change_names_its_option() -> None:
    source = Source("dlbench latency")
    parse_suite({"matrix": [{"models": "a"}]}, source, [Change("batch_sizes", ("0",), "--batch-sizes 0")])
    assert source.problems[0].startswith("--batch-sizes 0: expected `int` >= 1")


@pytest.mark.parametrize(
    ("where", "line"),
    [
        (Where("title"), 1),
        (Where("max_s", "budget"), 3),
        (Where("min_s", "budget"), 2),
        (Where("models", "matrix", 2), 8),
        (Where("zip", "matrix", 1), 4),
        (Where("options.hint", "matrix", 2), 11),
        (Where("nothing"), None),
    ],
)
def test_the_line_of_a_key_or_of_its_table_is_found(where: Where, line: int | None) -> None:
    assert line_of(GOOD, where) == line


def test_a_suite_that_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=r"no ready suite 'quik'\. Did you mean 'quick'"):
        find_suite("quik")
    with pytest.raises(SuiteError, match="No such file or directory; `dlbench list` shows"):
        read_suite(find_suite(str(tmp_path / "none.toml")))
    (tmp_path / "torn.toml").write_text("[[matrix]\n")
    with pytest.raises(SuiteError, match=r"torn.toml is no TOML: .*line 1"):
        read_suite(tmp_path / "torn.toml")
    (tmp_path / "empty.toml").write_text("")
    with pytest.raises(SuiteError, match=r"needs at least one \[\[matrix\]\] table"):
        read_suite(tmp_path / "empty.toml")[1].check()


def test_the_published_schema_is_that_of_the_suites() -> None:
    assert (READY / "suite.schema.json").read_text() == suite_schema_text()
    definitions = suite_schema()["$defs"]
    for kind in (Suite, Matrix):
        properties = definitions[kind.__name__]["properties"]
        assert list(properties) == list(kind.__struct_fields__)
        assert definitions[kind.__name__]["additionalProperties"] is False
        assert all("description" in one or "$ref" in one for one in properties.values())


def test_each_ready_suite_names_its_schema() -> None:
    assert set(ready_suites()) == {"stream-2018", "deepdetect-report", "gluon-zoo", "low-batch", "dli", "quick"}
    for path in ready_suites().values():
        assert path.read_text().startswith("#:schema ./suite.schema.json\n")
