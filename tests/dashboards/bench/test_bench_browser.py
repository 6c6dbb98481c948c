"""The page of a bench in a real browser: no complaint, no overflow, and a table that can be sorted and filtered."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.test_browser import CHECK, open_page

USE = """
<script>
addEventListener("load", () => {
  const table = document.querySelector("table.sortable");
  const shown = column => [...table.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[column].dataset.value);
  const headings = [...table.tHead.rows[0].cells].map(cell => cell.textContent);
  const rate = headings.findIndex(text => text.startsWith("images"));
  const button = table.tHead.rows[0].cells[rate].querySelector("button");
  const found = { headings };
  button.click();
  found.up = shown(rate);
  button.click();
  found.down = shown(rate);
  found.sort = table.tHead.rows[0].cells[rate].getAttribute("aria-sort");
  const choose = (label, value) => {
    const choice = document.querySelector(`.controls select[aria-label="${label}"]`);
    choice.value = value;
    choice.dispatchEvent(new Event("change"));
  };
  choose("engine", "=openvino");
  choose("precision", "=int8");
  found.chosen = shown(headings.indexOf("engine")).length;
  const words = document.querySelector(".controls input");
  words.value = "throughput RESNET50";
  words.dispatchEvent(new Event("input"));
  found.searched = shown(0);
  found.counted = document.querySelector(".controls output").textContent;
  document.documentElement.setAttribute("data-found", JSON.stringify(found));
});
</script>
"""


def seen(page: Path, script: str, tmp_path: Path, width: int) -> Any:
    """What a script in place of the page's policy finds there."""
    source, removed = re.subn(
        r'<meta http-equiv="Content-Security-Policy"[^>]*>', lambda _: script, (page / "report.html").read_text()
    )
    assert removed == 1
    (tmp_path / "checked.html").write_text(source)
    attribute = re.search(
        r'data-found="([^"]*)"', open_page(tmp_path / "checked.html", tmp_path / "profile", width).stdout
    )
    assert attribute is not None
    return json.loads(attribute[1].replace("&quot;", '"').replace("&amp;", "&"))


def test_the_browser_console_stays_empty_and_the_pages_own_script_may_run(tuning: Path, tmp_path: Path) -> None:
    done = open_page(tuning / "report.html", tmp_path, 1200)
    assert "44 of 44 rows" in done.stdout
    assert [line for line in done.stderr.splitlines() if "CONSOLE" in line] == []


@pytest.mark.parametrize("width", [1200, 480])
def test_pictures_are_shown_and_nothing_is_wider_than_the_window(small: Path, tmp_path: Path, width: int) -> None:
    found = seen(small, CHECK, tmp_path, width)
    assert found["pictures"] == [True] * 14
    assert found["wide"] <= 0


def test_the_table_of_points_is_sorted_and_filtered_in_the_page(tuning: Path, tmp_path: Path) -> None:
    found = seen(tuning, USE, tmp_path, 1200)
    told = [float(value) for value in found["up"] if value]
    assert told == sorted(told)
    assert len(found["up"]) == 44
    assert found["up"][-5:] == found["down"][-5:] == [""] * 5
    assert [float(value) for value in found["down"] if value] == told[::-1]
    assert found["sort"] == "descending"
    assert found["chosen"] == 4
    assert found["searched"] == ["resnet50"]
    assert found["counted"] == "1 of 44 rows"
