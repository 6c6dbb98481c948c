"""samples.jsonl is read as it was written, and what is wrong with it is said."""

from pathlib import Path

import pytest
from dlclient.errors import ResultError
from dlclient.timeline import (
    SAMPLES_FILE,
    ClientSample,
    GpuSample,
    Note,
    Sample,
    ServerSample,
    encode_line,
    read_samples,
)

CLIENT = Sample(
    t_s=11.0,
    interval_s=1.0,
    source="pid-7",
    client=ClientSample(
        cpu_cores=0.4,
        resident_bytes=1000,
        loop_delay_p50_s=0.0005,
        loop_delay_p99_s=0.002,
        loop_delay_max_s=0.004,
        switches_voluntary=9,
        switches_involuntary=1,
        clock_offset_s=1.7e9,
        system_busy=0.5,
        system_steal=0.0,
    ),
)
SERVER = Sample(
    t_s=11.5,
    interval_s=1.0,
    source="http://127.0.0.1:8080/metrics",
    server=ServerSample(scrape_s=0.01, in_flight=2.0, gpus={"0": GpuSample(utilization=0.5)}),
)
NOTE = Note(t_s=12.0, source="http://127.0.0.1:8080/metrics", note="no metrics: gone")


def written(folder: Path, content: bytes) -> Path:
    (folder / SAMPLES_FILE).write_bytes(content)
    return folder


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = written(tmp_path, encode_line(CLIENT) + encode_line(NOTE) + encode_line(SERVER))
    assert read_samples(folder) == ([CLIENT, SERVER], [NOTE])


def test_a_run_without_samples_has_none(tmp_path: Path) -> None:
    assert read_samples(tmp_path) == ([], [])


def test_a_last_line_that_an_interrupt_tore_is_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path, encode_line(CLIENT) + encode_line(SERVER)[:40])
    assert read_samples(folder) == ([CLIENT], [])


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path) -> None:
    folder = written(tmp_path, encode_line(CLIENT) + b"{broken\n" + encode_line(SERVER))
    with pytest.raises(ResultError, match=rf"{SAMPLES_FILE}:2: .*restore the file"):
        read_samples(folder)


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    later = encode_line(SERVER).replace(b'"scrape_s"', b'"later":{"x":1},"scrape_s"')
    assert read_samples(written(tmp_path, later)) == ([SERVER], [])
