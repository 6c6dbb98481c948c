"""dlload.recorder: which folder a run gets, and that records survive."""

import time
from pathlib import Path

import msgspec
import pytest
from dlclient.results import Record, Seeds, read_plan, read_records
from dlload.errors import RecordError
from dlload.plan import Closed, draw
from dlload.recorder import new_folder, open_recorder

NOW = time.struct_time((2026, 1, 2, 3, 4, 5, 0, 1, 0))
RECORD = Record(
    phase="warm",
    index=0,
    due_s=0.0,
    sent_s=0.1,
    first_byte_s=0.2,
    done_s=0.3,
    status=200,
    error="",
    model="a",
    image="x.jpg",
    bytes_sent=9,
    images=1,
)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def folder(asked: str | None, *, overwrite: bool = False, run_number: int = 1) -> Path:
    return new_folder(Path(asked) if asked else None, overwrite=overwrite, run_number=run_number, now=NOW)


def test_without_a_name_the_folder_has_date_and_time() -> None:
    assert folder(None) == Path("results/stream-20260102-030405")
    assert folder(None) == Path("results/stream-20260102-030405-2")
    assert folder(None) == Path("results/stream-20260102-030405-3")


def test_a_named_folder_is_the_folder_itself() -> None:
    assert folder("a/b") == Path("a/b")
    assert Path("a/b").is_dir()
    assert folder("a/b") == Path("a/b"), "an empty folder is as good as a new one"


def test_later_runs_of_a_web_page_get_folders_beside_the_named_one() -> None:
    assert folder("out") == Path("out")
    assert [folder("out", run_number=2), folder("out", run_number=3)] == [Path("out-2"), Path("out-3")]


def test_an_earlier_result_is_kept_unless_told_otherwise() -> None:
    Path("out").mkdir()
    Path("out/run.json").write_text("old")
    Path("out/notes.txt").write_text("mine")
    with pytest.raises(RecordError, match="not empty"):
        folder("out")
    assert folder("out", overwrite=True) == Path("out")
    assert [path.name for path in Path("out").iterdir()] == ["notes.txt"]


def test_an_old_report_goes_with_its_result() -> None:
    for name in ("out/run.json", "out/pictures/a.svg", "out/tables/a.csv", "out/tables/mine.xlsx", "else/b.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    folder("out", overwrite=True)
    assert [str(path) for path in sorted(Path("out").rglob("*"))] == ["out/tables", "out/tables/mine.xlsx"]
    Path("out/run.json").touch()
    Path("out/pictures").symlink_to("../else")
    folder("out", overwrite=True)
    assert Path("else/b.png").exists()


def test_a_folder_that_is_no_result_is_never_emptied() -> None:
    Path("home").mkdir()
    Path("home/thesis.txt").write_text("precious")
    with pytest.raises(RecordError, match="not the folder of a stream"):
        folder("home", overwrite=True)
    assert Path("home/thesis.txt").exists()


def test_a_file_in_the_way_is_told() -> None:
    Path("out").write_text("")
    with pytest.raises(RecordError, match="cannot use the result folder out"):
        folder("out")


def test_a_record_is_on_disk_before_the_next_one_comes() -> None:
    recorder = open_recorder(folder("out"))
    for index in range(3):
        recorder.write(msgspec.structs.replace(RECORD, index=index))
        assert len(read_records(Path("out"))) == index + 1  # the recorder is not closed yet
    recorder.close()
    assert read_records(Path("out"))[2].index == 2


def test_the_plan_is_read_back_as_it_was_drawn() -> None:
    plan = draw(seeds=Seeds.all(3), load=Closed(9), services=("a", "b"), mix="uniform", images=("x", "y"), batch_size=2)
    recorder = open_recorder(folder("out"))
    recorder.save_plan(plan)
    recorder.close()
    assert read_plan(Path("out")) == (plan.header, list(plan.slots))


def test_a_full_disk_is_told_and_tears_at_most_the_last_line(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = open_recorder(folder("out"))
    recorder.write(RECORD)
    real, room = recorder._requests, 10

    class Full:
        def write(self, line: bytes) -> int:
            nonlocal room
            if room == 0:
                raise OSError(28, "No space left on device")
            taken = real.write(line[:room])
            room -= taken
            return taken

    monkeypatch.setattr(recorder, "_requests", Full())
    with pytest.raises(RecordError, match="No space left on device; free some space"):
        recorder.write(RECORD)
    monkeypatch.setattr(recorder, "_requests", real)
    with pytest.raises(RecordError, match="No space left on device"):
        recorder.write(RECORD)  # there is room again, but the line before is torn
    recorder.close()
    assert read_records(Path("out")) == [RECORD]


def test_space_for_the_result_is_kept_until_no_more_records_come() -> None:
    out = folder("out")
    recorder = open_recorder(out)
    kept = out / ".reserve"
    assert kept.stat().st_size == 1 << 18
    recorder.close()
    assert not kept.exists()
    share = open_recorder(out, "requests-0.jsonl")
    assert not kept.exists(), "a worker writes records only"
    share.close()


def test_what_could_not_be_merged_is_read_from_the_workers_own_files() -> None:
    out = folder("out")
    written = [
        msgspec.structs.replace(RECORD, phase=phase, index=index, share=index % 2, done_s=index * 1.0)
        for phase in ("warm", "disk")
        for index in range(4)
    ]
    for share in (0, 1):
        recorder = open_recorder(out, f"requests-{share}.jsonl")
        for record in written:
            if record.share == share:
                recorder.write(record)
        recorder.close()
    merged = open_recorder(out)
    for record in written[:5]:
        merged.write(record)
    assert read_records(out) == written
    for record in written[5:]:
        merged.write(record)
    merged.close()
    assert read_records(out) == written
