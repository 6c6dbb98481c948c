"""Tables as CSV and Markdown."""

import csv
import io

import pytest
from dlreport.table import Cell, Column, Row, Table, missing, name, to_csv, to_markdown, to_text

COLUMNS = (
    Column("model", "model", numeric=False),
    Column("mean_s", "mean", "ms"),
    Column("unit", "unit", printed=False),
)


def table(*cells: tuple[Cell, Cell, Cell], groups: tuple[str, ...] = ()) -> Table:
    rows = (Row(cell, group) for cell, group in zip(cells, groups or [""] * len(cells), strict=True))
    return Table("example", "An example", COLUMNS, tuple(rows))


def test_csv_has_raw_values_and_leaves_unknown_ones_empty() -> None:
    made = table((name("a"), Cell(0.0123, "12.3"), name("s")), (name("b"), missing(), name("s")))
    assert to_csv(made) == "model,mean_s,unit\na,0.0123,s\nb,,s\n"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_csv_text_is_no_formula_for_a_spreadsheet(text: str) -> None:
    made = table((name(text), Cell(1.0, "1"), name("")))
    assert list(csv.reader(io.StringIO(to_csv(made))))[1][0] == f"'{text}"


def test_a_negative_number_stays_a_number_in_csv() -> None:
    assert "a,-0.5," in to_csv(table((name("a"), Cell(-0.5, "-500"), name(""))))


def test_markdown_has_printed_texts_aligned_and_escaped() -> None:
    made = table((name("a|b <i> resnet_18 _x_"), Cell(0.0123, "12.3"), name("hidden")))
    assert to_markdown(made).splitlines() == [
        "# An example",
        "",
        "| model                          | mean [ms] |",
        "| ------------------------------ | --------: |",
        r"| a\|b &lt;i&gt; resnet_18 \_x\_ |      12.3 |",
    ]


def test_a_line_break_in_a_name_does_not_break_the_table() -> None:
    assert "| a b " in to_markdown(table((name("a\nb"), missing(), name(""))))


def test_rows_of_one_group_stand_together_and_others_alone() -> None:
    cells = (name("x"), missing(), name(""))
    made = table(cells, cells, cells, cells, groups=("a", "a", "", ""))
    assert [len(group) for group in made.groups] == [2, 1, 1]


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 3 columns"):
        Table("example", "An example", COLUMNS, (Row((name("a"), missing())),))


def test_text_for_a_terminal_says_what_stays_the_same_once_and_steers_nothing() -> None:
    columns = (Column("a", "name", numeric=False), Column("b", "value", "ms"))
    table = Table(
        "t", "T", columns, tuple(Row((name("x\x1b[31m\ny"), Cell(one, one, note="[1]"))) for one in ("5", "10"))
    )
    assert to_text(table) == "name      value, ms\nx [31m y      5 [1]\n             10 [1]\n"
