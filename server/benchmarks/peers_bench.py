"""dlserve beside other Python servers: `make bench-peers`. The same zero-cost model, 60 KB in, the same client, one run.

Each server lives in an environment of its own below .peers (made at the first run, pinned versions), gets two workers and
its defaults otherwise, and is asked by wrk with one client and eight, in turns with dlserve. A server that cannot be
installed or does not start here is a row that says why.
"""

import argparse
import base64
import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
from dlclient.serving_book import Book, now, ratios, write
from dlclient.serving_result import Measured, Ratio
from driving import COMMANDS, HERE, START_S, Server, check_tools, dlserve, end_all_when_told, running, write_script
from serving import BODY_BYTES, JPEG, ZERO, Ask, rate, take_turns

ENVIRONMENTS = HERE.parent.parent / ".peers"
APPS = HERE / "peers"
INSTALL_S = 600


@dataclass(frozen=True)
class Peer:
    """One server. `command`: {bin}, {port}, {folder} and {apps} are filled in; `ready`: printed once it listens."""

    name: str
    packages: tuple[str, ...]
    command: tuple[str, ...]
    path: str
    body: str
    """raw, base64 (in KServe's JSON) or kserve (its binary tensors)."""
    settings: str
    least: float
    """How many times its requests per second the issue asks of dlserve."""
    python: str = "3.11"
    """That its environment is made with. Triton's is linked with Debian's own, and takes no other build of the same version."""


PEERS = (
    Peer(
        "LitServe",
        ("litserve==0.2.19",),
        ("{bin}/python", "{apps}/litserve_peer.py", "{port}"),
        "/predict",
        "raw",
        "0.2.19, 2 workers, one HTTP process (its default), body as bytes",
        5,
    ),
    Peer(
        "MLServer",
        ("mlserver==1.7.1", "uvloop==0.21.0"),
        ("{bin}/mlserver", "start", "{folder}"),
        "/v2/models/zero/infer",
        "base64",
        "1.7.1, uvloop, 2 parallel workers, no batching; base64 in KServe's JSON, for its binary tensors are gRPC's",
        5,
    ),
    Peer(
        "BentoML",
        ("bentoml==1.4.40",),
        (
            "{bin}/bentoml",
            "serve",
            "bentoml_peer:Zero",
            "--working-dir",
            "{apps}",
            "--host",
            "127.0.0.1",
            "--port",
            "{port}",
        ),
        "/predict",
        "raw",
        "1.4.40, 2 workers, root input of bytes, no batching",
        5,
    ),
    Peer(
        "Ray Serve",
        ("ray[serve]==2.60.0",),
        ("{bin}/python", "{apps}/ray_peer.py", "{port}"),
        "/",
        "raw",
        "2.60.0, 2 replicas, one HTTP proxy (its default)",
        5,
    ),
    Peer(
        "PyTriton",
        ("nvidia-pytriton==0.7.0", "numpy<2"),
        ("{bin}/python", "{apps}/pytriton_peer.py", "{port}"),
        "/v2/models/zero/infer",
        "kserve",
        "0.7.0, two instances of the function, batches up to 8, KServe binary tensors",
        5,
        "/usr/bin/python3.11",
    ),
    Peer(
        "TorchServe",
        ("torchserve==0.12.0", "torch-model-archiver==0.12.0", "torch==2.15.0", "psutil", "pyyaml"),
        (
            "{bin}/torchserve",
            "--foreground",
            "--ncs",
            "--disable-token-auth",
            "--model-store",
            "{folder}",
            "--models",
            "zero=zero.mar",
            "--ts-config",
            "{folder}/config.properties",
        ),
        "/predictions/zero",
        "raw",
        "0.12.0, 2 workers, batch size 1, Java's HTTP front end",
        2.5,
    ),
)


def install(peer: Peer) -> Path:
    """Its environment, made where there is none. Raises RuntimeError saying why it cannot be."""
    folder = ENVIRONMENTS / peer.name.lower().replace(" ", "-")
    done = folder / ".installed"
    if done.is_file() and done.read_text(encoding="utf-8") == " ".join(peer.packages):
        return folder
    uv = str(COMMANDS / "uv")
    print(f"  installing {peer.name}", file=sys.stderr)
    for command in (
        [uv, "venv", "--quiet", "--clear", "--python", peer.python, str(folder)],
        [uv, "pip", "install", "--quiet", "--python", str(folder / "bin/python"), *peer.packages],
    ):
        try:
            made = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_S)  # noqa: S603
        except subprocess.TimeoutExpired:
            raise RuntimeError(f"not installed within {INSTALL_S} s") from None
        if made.returncode:
            raise RuntimeError(f"cannot be installed here: {_last_line(made.stderr)}")
    done.write_text(" ".join(peer.packages), encoding="utf-8")
    return folder


def _last_line(text: str) -> str:
    lines = [line.strip(" \u2570\u2500\u25b6\u00d7\u2502") for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "the installer said nothing"


def free_port() -> int:
    """One that is free, and whose two neighbours will be with luck."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def prepare(peer: Peer, made: Path, folder: Path, port: int) -> None:
    """The files that some of them need."""
    if peer.name == "MLServer":
        ports = {
            "http_port": port,
            "grpc_port": port + 1,
            "metrics_port": port + 2,
            "host": "127.0.0.1",
            "metrics_dir": str(folder),
        }
        settings = ports | {"parallel_workers": 2, "debug": False}
        (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
        model = {"name": "zero", "implementation": "mlserver_peer.Zero"}
        (folder / "model-settings.json").write_text(json.dumps(model), encoding="utf-8")
    if peer.name == "TorchServe":
        (folder / "handler.py").write_text(
            "from answer import ANSWER\n\n\ndef handle(data, context):\n    return [ANSWER for _ in data or ()]\n",
            encoding="utf-8",
        )
        pack = [str(made / "bin/torch-model-archiver"), "--model-name", "zero", "--version", "1", "--handler"]
        pack += [str(folder / "handler.py"), "--extra-files", str(APPS / "answer.py"), "--export-path", str(folder)]
        subprocess.run(pack, check=True, capture_output=True, timeout=START_S)  # noqa: S603
        lines = [
            f"{name}_address=http://127.0.0.1:{port + place}"
            for place, name in enumerate(("inference", "management", "metrics"))
        ]
        (folder / "config.properties").write_text("\n".join([*lines, "default_workers_per_model=2"]), encoding="utf-8")


@contextlib.contextmanager
def serving(peer: Peer, folder: Path) -> Iterator[Server]:
    """The peer, running and asked once. Raises RuntimeError saying why it is not."""
    made, port = install(peer), free_port()
    own = folder / peer.name
    own.mkdir()
    prepare(peer, made, own, port)
    places = {"bin": made / "bin", "port": port, "folder": own, "apps": APPS}
    command = [part.format(**places) for part in peer.command]
    surroundings = os.environ | {
        "PYTHONPATH": str(APPS),
        "PATH": f"{made / 'bin'}:{os.environ['PATH']}",
        "VIRTUAL_ENV": str(made),
        "DO_NOT_TRACK": "True",
        "BENTOML_DO_NOT_TRACK": "True",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLSERVER_MODELS_DIR": str(own),
    }
    log = folder / f"{peer.name}.log"
    with running(command, r"()", cwd=own, environment=surroundings, log=log) as started:
        server = Server(f"http://127.0.0.1:{port}", started.process)
        _until_it_answers(peer, server, log)
        yield server


def _until_it_answers(peer: Peer, server: Server, log: Path) -> None:
    body, headers = BODIES[peer.body]
    last = "nothing"
    for _ in range(START_S * 2):
        if server.process.poll() is not None:
            break
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(server.url + peer.path, content=body, headers=headers, timeout=20)
            if answer.is_success:
                return
            last = f"{answer.status_code} {answer.text[:150]}"
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.process.wait(0.5)
    tail = _last_line(log.read_text(encoding="utf-8", errors="replace"))
    raise RuntimeError(f"did not come up within {START_S} s: answered {last}; its log ends with {tail}")


def bodies() -> dict[str, tuple[bytes, dict[str, str]]]:
    """What is sent, by kind, with its headers."""
    raw = os.urandom(BODY_BYTES)
    tensor = {"name": "image", "shape": [1], "datatype": "BYTES", "data": [base64.b64encode(raw).decode()]}
    binary = {"name": "image", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": BODY_BYTES + 4}}
    head = json.dumps({"inputs": [binary]}).encode()
    kserve = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    return {
        "raw": (raw, JPEG),
        "base64": (json.dumps({"inputs": [tensor]}).encode(), {"Content-Type": "application/json"}),
        "kserve": (head + BODY_BYTES.to_bytes(4, "little") + raw, kserve),
    }


BODIES = bodies()


def compare(peer: Peer, rounds: int, seconds: int, folder: Path, book: Book) -> None:
    """One peer beside dlserve, in turns; only these two run."""
    part = peer.name
    try:
        with ExitStack() as stack:
            theirs = stack.enter_context(serving(peer, folder))
            ours = stack.enter_context(dlserve(folder / f"dlserve-{part}.log"))
            httpx.put(f"{ours.url}/services/zero", json=ZERO, timeout=START_S).raise_for_status()
            scripts = {kind: write_script(folder, f"{part}-{kind}", *BODIES[kind]) for kind in ("raw", peer.body)}
            asks = [
                Ask(peer.name, theirs, peer.path, scripts[peer.body], peer.body),
                Ask("dlserve", ours, "/predict/zero", scripts["raw"], "raw"),
            ]
            take_turns(part, asks, (1, 8), rounds, seconds, book)
    except (RuntimeError, subprocess.SubprocessError, OSError) as exc:
        row = Measured(part=part, target=peer.name, clients=8, settings=peer.settings, failure=str(exc)[:300])
        book.measured.append(row)
        return
    text = f"8 clients: dlserve's requests/s / {peer.name}'s"
    values = ratios(book, part, ("dlserve", 8), (peer.name, 8), rate)
    book.ratios.append(Ratio(text=text, values=values, at_least=peer.least))


def main(arguments: Sequence[str] | None = None) -> int:
    """Install and measure the peers that are asked for."""
    names = ",".join(peer.name for peer in PEERS)
    options = argparse.ArgumentParser(
        prog="make bench-peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=2, help="of each measurement, whole ones")
    options.add_argument("--only", default=names, help=f"some of {names}")
    options.add_argument("--install", action="store_true", help="make the environments, measure nothing")
    options.add_argument("--results", type=Path, default=Path("results/peers"))
    given = options.parse_args(arguments)
    asked = given.only.split(",")
    if unknown := set(asked) - set(names.split(",")):
        options.error(f"no peer {', '.join(sorted(unknown))}; there are: {names}")
    end_all_when_told()
    if problem := check_tools():
        print(f"make bench-peers: {problem}", file=sys.stderr)
        return 1
    began, book = now(), Book()
    with tempfile.TemporaryDirectory() as made:
        for peer in PEERS:
            if peer.name not in asked:
                continue
            if given.install:
                with contextlib.suppress(RuntimeError):
                    install(peer)
            else:
                compare(peer, given.rounds, given.seconds, Path(made), book)
    if given.install:
        return 0
    settings = {peer.name: peer.settings for peer in PEERS}
    book.measured = [_with_settings(one, settings) for one in book.measured]
    write(given.results, "dlserve beside other servers", began, given.seconds, book)
    return 0


def _with_settings(one: Measured, settings: dict[str, str]) -> Measured:
    return Measured(
        part=one.part,
        target=one.target,
        clients=one.clients,
        body=one.body,
        settings=settings.get(one.target, ""),
        rounds=one.rounds,
        failure=one.failure,
    )


if __name__ == "__main__":
    sys.exit(main())
