"""A bench's result folder: written point by point, taken up again after whatever ended it."""

from pathlib import Path

import msgspec
import pytest
from dlclient.bench_folder import BenchFolder, now
from dlclient.bench_result import (
    BENCH_SCHEMA,
    Bench,
    Point,
    Sample,
    Setting,
    read_bench,
    read_point_samples,
    read_points,
)
from dlclient.environment import environment
from dlclient.errors import ResultError


def bench(name: str = "quick") -> Bench:
    return Bench(
        schema=BENCH_SCHEMA, kind="bench", program="dlbench", name=name, title="Quick", started=now(), finished=None,
        points=2, command=("dlbench", "run", name), environment=environment(),
    )  # fmt: skip


def point(batch_size: int, simulated: bool = False) -> Point:
    setting = Setting(model="a", batch_size=batch_size)
    return Point(id=setting.id, setting=setting, started=now(), seconds=1.0, simulated=simulated)


def test_points_and_their_samples_come_back(tmp_path: Path) -> None:
    samples = [Sample(0.0, 0.1), Sample(0.1, 0.2, error="HTTP 500")]
    with BenchFolder(tmp_path / "out", bench(), resume=False) as folder:
        folder.append(point(1), samples)
        folder.append(point(2, simulated=True))
        assert read_bench(tmp_path / "out").finished is None
        folder.finish()
    assert [one.id for one in read_points(tmp_path / "out")] == [point(1).id, point(2).id]
    assert read_point_samples(tmp_path / "out", point(1).id) == samples
    assert read_bench(tmp_path / "out").finished
    assert read_bench(tmp_path / "out").simulated


def test_a_setting_is_known_by_what_it_is() -> None:
    one = Setting(model="a", options={"x": 1, "y": 2})
    assert one.id == Setting(model="a", options={"y": 2, "x": 1}).id
    assert one.id != Setting(model="a", options={"x": 1, "y": 3}).id
    assert len(one.id) == 16
    written = msgspec.json.encode(Setting(model="a", device="cpu", target="inproc"))
    assert (
        Setting(model="a").id
        == msgspec.json.decode(written, type=Setting).id
        == Setting(model="a", device="".join("cpu")).id
    )
    spelled_out = b'{"model": "a", "device": "cpu", "target": "inproc", "threads": null, "options": {}}'
    assert msgspec.json.decode(spelled_out, type=Setting).id == Setting(model="a").id


def test_a_torn_line_is_cut_off_and_a_repeated_point_counts_once(tmp_path: Path) -> None:
    with BenchFolder(tmp_path, bench(), resume=False) as folder:
        folder.append(point(1))
    whole = (tmp_path / "points.jsonl").read_bytes()
    (tmp_path / "points.jsonl").write_bytes(whole + whole[:20])
    with BenchFolder(tmp_path, bench(), resume=True) as folder:
        assert list(folder.done) == [point(1).id]
        folder.append(point(2))
        folder.append(point(2))
    assert [one.setting.batch_size for one in read_points(tmp_path)] == [1, 2]


def test_what_the_folder_holds_is_not_lost_by_mistake(tmp_path: Path) -> None:
    with (
        BenchFolder(tmp_path / "a", bench(), resume=False),
        pytest.raises(ResultError, match="another bench is writing"),
        BenchFolder(tmp_path / "a", bench(), resume=True),
    ):
        pass
    with pytest.raises(ResultError, match="--resume"), BenchFolder(tmp_path / "a", bench(), resume=False):
        pass
    with pytest.raises(ResultError, match="holds a result of dlbench 'quick'"):
        BenchFolder(tmp_path / "a", bench("dli"), resume=True).__enter__()
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").touch()
    with pytest.raises(ResultError, match="something else"), BenchFolder(tmp_path / "b", bench(), resume=False):
        pass
    (tmp_path / "c").touch()
    with pytest.raises(ResultError, match="name another --results"), BenchFolder(tmp_path / "c", bench(), resume=False):
        pass


def test_a_result_of_another_version_is_refused(tmp_path: Path) -> None:
    with BenchFolder(tmp_path, bench(), resume=False):
        pass
    run = (tmp_path / "run.json").read_text()
    (tmp_path / "run.json").write_text(run.replace("dlserve-bench/1", "dlserve-bench/9"))
    with pytest.raises(ResultError, match="dlserve-bench/9"):
        read_bench(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ResultError, match="schema"):
        read_bench(tmp_path)
