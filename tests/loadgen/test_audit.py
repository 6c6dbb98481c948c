"""dlload.audit, dlload.answers: what finds a server that cheats, or is wrong."""

import hashlib
import io
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pytest
from dlclient.results import Record, Seeds, read_records
from dlload.answers import check, is_kept
from dlload.audit import compare, varied, with_comment
from dlload.errors import ImagesError
from dlload.plan import Closed, draw
from dlload.standing import Figures
from PIL import Image

if TYPE_CHECKING:
    from tests.loadgen.conftest import Locust

WORK_S = 0.1


def encoded(kind: str) -> bytes:
    pixels = np.random.default_rng(1).integers(0, 255, (20, 30, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_comment_changes_the_file_and_not_the_picture(kind: str) -> None:
    plain = encoded(kind)
    marked = with_comment(plain, "17.0")
    assert marked != plain
    before, after = (np.asarray(Image.open(io.BytesIO(content))) for content in (plain, marked))
    assert np.array_equal(before, after)


def test_other_formats_are_refused() -> None:
    with pytest.raises(ImagesError, match="JPEG or PNG"):
        with_comment(encoded("BMP"), "0")


def test_unique_images_are_all_others_and_the_same_one_is_one() -> None:
    plan = draw(
        seeds=Seeds.all(1), load=Closed(5), services=("a",), mix="uniform", images=("x.jpg", "y.jpg"), batch_size=2
    )
    contents = {"x.jpg": encoded("JPEG"), "y.jpg": encoded("JPEG")}
    unique, files = varied(plan, contents, "unique")
    assert len(set(files.values())) == len({name for slot in unique.slots for name in slot.images}) == 10
    same, one = varied(plan, contents, "same")
    assert {name for slot in same.slots for name in slot.images} == set(one)
    assert len(one) == 1
    assert [slot.model for slot in same.slots] == [slot.model for slot in unique.slots] == ["a"] * 5


def times(mean_s: float) -> Figures:
    latencies = np.random.default_rng(3).lognormal(np.log(mean_s), 0.2, 300)
    return Figures(300, 0, 1.0, 300.0, latencies, latencies)


@pytest.mark.parametrize(
    ("same_s", "code"),
    [(0.010, None), (0.0095, None), (0.012, None), (0.008, "answers-cached"), (0.0001, "answers-cached")],
)
def test_only_clearly_quicker_answers_are_held_against_a_server(same_s: float, code: str | None) -> None:
    found = compare(times(0.010), times(same_s))
    assert (found.code if found else None) == code


def test_too_few_answers_prove_nothing() -> None:
    found = compare(Figures(3, 0, 1.0, 3.0, [0.1] * 3, [0.1] * 3), Figures(3, 0, 1.0, 3.0, [0.1] * 3, [0.1] * 3))
    assert found is not None
    assert found.code == "audit-too-short"


def answered(model: str, image: str, answer: str | None, index: int = 0, images: int = 1) -> Record:
    return Record(
        phase="warm", index=index, due_s=0.0, sent_s=0.0, first_byte_s=0.1, done_s=0.1, status=200, error="", model=model,
        image=image, bytes_sent=1, images=images, answer=answer,
    )  # fmt: skip


def test_answers_are_compared_by_model_and_image() -> None:
    reference = [answered("a", "x", "cat"), answered("a", "y", "dog"), answered("b", "x", "cow")]
    assert check([answered("a", "x", "cat", 40), answered("b", "x", "cow"), answered("a", "z", "?")], reference) == []
    (wrong,) = check([answered("a", "x", "cat"), answered("a", "y", "cat")], reference)
    assert wrong.code == "wrong-answers"
    assert "1 of 2 compared answers differ" in wrong.text
    assert "'cat', not 'dog'" in wrong.text


def test_of_several_images_only_the_same_slot_is_compared() -> None:
    reference = [answered("a", "x", "cat|dog", 10, images=2)]
    (none,) = check([answered("a", "x", "cat|cow", 20, images=2)], reference)
    assert none.code == "answers-not-compared"
    (wrong,) = check([answered("a", "x", "cat|cow", 10, images=2)], reference)
    assert wrong.code == "wrong-answers"


def test_every_tenth_answer_is_kept() -> None:
    assert [index for index in range(31) if is_kept(index)] == [0, 10, 20, 30]


class Server(ThreadingHTTPServer):
    """Takes 100 ms for an answer, unless it `caches` and has seen the image."""

    def __init__(self, *, caches: bool, label: str = "n01 cat") -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.caches = caches
        self.label = label
        self.seen: set[str] = set()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self._answer({"status": {"code": 200}, "head": {"services": [{"name": "a"}], "dlserve": {"workers": []}}})

    def do_POST(self) -> None:
        digest = hashlib.sha256(self.rfile.read(int(self.headers["Content-Length"]))).hexdigest()
        if not (self.server.caches and digest in self.server.seen):
            time.sleep(WORK_S)  # the work of this server
        self.server.seen.add(digest)
        classes = [{"prob": 0.9, "cat": self.server.label}]
        head = {"cache": "warm", "worker": 0, "batch_size": 1}
        self._answer({"status": {"code": 200}, "head": head, "body": {"predictions": [{"classes": classes}]}})

    def _answer(self, answer: object) -> None:
        content = json.dumps(answer).encode()
        # in one piece: a second one would wait for the first one's acknowledgement, which may be delayed by 40 ms
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  http.server's signature
        """Say nothing."""


@pytest.fixture
def running() -> Iterator[Callable[..., str]]:
    """Start servers: running(caches=True) gives the address."""
    started: list[tuple[Server, Thread]] = []

    def start(*, caches: bool = False, label: str = "n01 cat") -> str:
        server = Server(caches=caches, label=label)
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        started.append((server, thread))
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server, thread in started:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(autouse=True)
def _pictures(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("a", "b"):
        (tmp_path / "pictures" / f"{name}.jpg").write_bytes(encoded("JPEG"))


RUN = ("--headless", "--no-report", "--images", "pictures", "--phases", "warm", "-u", "2")


@pytest.mark.parametrize(
    ("caches", "code", "says"), [(False, 0, "PASSED"), (True, 1, "FAILED: the same image is answered")]
)
def test_the_audit_finds_a_server_that_keeps_answers(
    running: Callable[..., str], locust: Callable[..., "Locust"], tmp_path: Path, caches: bool, code: int, says: str
) -> None:
    one = locust(*RUN, "--audit", "caching", "--requests", "40", "--results", "out", "-H", running(caches=caches))
    found, out, err = one.wait()
    assert says in out, out + err
    assert found == code
    assert len({record.image for record in read_records(tmp_path / "out" / "same")}) == 1
    assert len({record.image for record in read_records(tmp_path / "out" / "unique")}) == 40


def test_a_run_whose_answers_differ_from_the_reference_is_invalid(
    running: Callable[..., str], locust: Callable[..., "Locust"]
) -> None:
    ask = (*RUN, "--requests", "20")
    code, out, err = locust(*ask, "--keep-answers", "--results", "reference", "-H", running()).wait()
    assert code == 0, out + err
    code, out, err = locust(*ask, "--check-answers", "reference", "--results", "good", "-H", running()).wait()
    assert code == 0, out + err
    wrong = running(label="n02 dog")
    code, out, err = locust(*ask, "--check-answers", "reference", "--results", "bad", "-H", wrong).wait()
    assert code == 1, out + err
    assert "compared answers differ from the reference" in out
    code, out, err = locust(*ask, "--check-answers", "nowhere", "--results", "none", "-H", wrong).wait()
    assert code == 1
    assert "--check-answers: cannot read nowhere/requests.jsonl" in err


def test_a_record_without_an_answer_has_no_such_field() -> None:
    assert b"answer" not in msgspec.json.encode(answered("a", "x", None))
