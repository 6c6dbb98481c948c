"""The stream against other people's servers: python -m tests.loadgen.check_peers [mlserver] [triton] [torchserve] [--folder DIR]

Makes an environment of its own for each server from PyPI (with uv; a few minutes, kept in DIR for the next time), starts the
server on loopback with the models of tests/loadgen/peers, streams at it, and checks verdicts, counts and what was sent. Not
a test of every change. Triton's server is in the wheel of nvidia-pytriton (Linux, x86-64); TorchServe needs Java 17. Exits
with 1 if anything is not as expected.
"""

import argparse
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
from dlclient.client import Client
from dlclient.results import read_records, read_run
from dlload.connection import Connection
from dlload.options import add_options, read_options
from dlload.protocols.choice import create_protocol
from dlload.target import find_target
from PIL import Image

from tests.ports import free_port

ROOT = Path(__file__).parents[2]
PEERS = Path(__file__).parent / "peers"
COMMANDS = Path(sys.executable).parent
READY_S = 120.0
STREAM_S = 300.0
COLOURS = ("black", "white", "red", "green", "blue")
NORMALISED = ("--scale", "0.00392156862745098")
INPUTS: Mapping[str, tuple[str, tuple[int, ...]]] = {
    "files": ("BYTES", (-1,)),
    "pixels": ("UINT8", (-1, 32, 32, 3)),
    "planes": ("FP32", (-1, 3, 32, 32)),
}
"""Models of KServe's servers, by what they take."""


@dataclass(frozen=True)
class Running:
    """A server that is ready."""

    url: str
    arguments: tuple[str, ...]
    """For the stream."""


@dataclass(frozen=True)
class Stream:
    """One run, and what is expected of it."""

    what: str
    arguments: tuple[str, ...]
    services: tuple[str, ...]
    temperatures: tuple[str, ...] = ("unknown", "reload")
    batch_size: int = 1
    requests: int = 24


@dataclass(frozen=True)
class Peer:
    """A server to check against."""

    name: str
    packages: tuple[str, ...]
    start: Callable[[Path, Path], "Iterator[Running]"]
    """(its environment, an empty folder) -> the server, for a while."""
    streams: tuple[Stream, ...]


def main() -> int:
    """Check the named servers, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("peers", nargs="*", metavar="SERVER", help=f"of {', '.join(KNOWN)}; default: all")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "dlload-peers", metavar="DIR")
    given = parser.parse_args()
    if unknown := [name for name in given.peers if name not in KNOWN]:
        parser.error(f"{unknown[0]} is none of {', '.join(KNOWN)}")
    wrong = 0
    for name in given.peers or KNOWN:
        peer = KNOWN[name]
        environment = _environment(peer, given.folder)
        with (
            tempfile.TemporaryDirectory() as scratch,
            contextmanager(peer.start)(environment, Path(scratch)) as running,
        ):
            for stream in peer.streams:
                problems = _streamed(running, stream, Path(scratch)) + _mistaken(running, stream)
                wrong += bool(problems)
                print(f"{name:<11} {stream.what:<44} {'; '.join(problems) or 'as expected'}", flush=True)
    return 1 if wrong else 0


def _environment(peer: Peer, folder: Path) -> Path:
    """The peer's own virtual environment, made unless it is there."""
    environment = folder / peer.name
    done = environment / ".installed"
    if not done.exists() or done.read_text(encoding="ascii").split() != list(peer.packages):
        print(f"{peer.name}: installing {' '.join(peer.packages)} into {environment}", flush=True)
        subprocess.run(
            [COMMANDS / "uv", "venv", "--quiet", "--clear", "--python", sys.executable, environment], check=True
        )
        install: list[str | Path] = [
            COMMANDS / "uv",
            "pip",
            "install",
            "--quiet",
            "--python",
            environment / "bin/python",
        ]
        subprocess.run([*install, *peer.packages], check=True)
        done.write_text(" ".join(peer.packages), encoding="ascii")
    return environment


def _streamed(running: Running, stream: Stream, scratch: Path) -> list[str]:
    """What is not as expected."""
    results = scratch / "results"
    command: list[str | Path] = [
        *(COMMANDS / "locust", "-f", ROOT / "loadgen/stream.py", "--headless", "--no-report", "-H", running.url),
        *(
            "-u",
            "3",
            "--requests",
            str(stream.requests),
            "--results",
            results,
            "--overwrite",
            "--batch-size",
            str(stream.batch_size),
        ),
        *_arguments(running, stream),
    ]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, timeout=STREAM_S, check=False)
    if not (results / "run.json").exists():
        return [f"no result: {done.stderr[-1500:]}"]
    run, records = read_run(results), read_records(results)
    problems = [f"{reason.code}: {reason.text}" for reason in run.reasons]
    if done.returncode != 0:
        problems.append(f"exit code {done.returncode}: {done.stderr[-500:]}")
    wanted = [{temperature: stream.requests} for temperature in stream.temperatures]
    if (found := [phase.temperatures for phase in run.phases]) != wanted:
        problems.append(f"temperatures {found}, not {wanted}")
    if len(records) != stream.requests * len(stream.temperatures) or not all(record.ok for record in records):
        problems.append(f"{sum(record.ok for record in records)} good records of {len(records)}")
    for phase in run.phases:
        reload_s = (phase.total.stages_s or {}).get("reload")
        mean_s = phase.total.latency_s.mean
        print(
            f"    {stream.what}, {phase.name}: mean {(mean_s or 0) * 1e3:.1f} ms"
            + (f", reload {reload_s * 1e3:.1f} ms" if reload_s else ""),
            flush=True,
        )
    return problems


def _arguments(running: Running, stream: Stream) -> list[str]:
    own = () if "--protocol" in stream.arguments else running.arguments
    return ["--services", ",".join(stream.services), *own, *stream.arguments]


def _mistaken(running: Running, stream: Stream) -> list[str]:
    """Pictures of one colour that the server does not see so: wrong channels, layout or normalisation."""
    parser = argparse.ArgumentParser()
    add_options(parser)
    options = read_options(parser.parse_args(_arguments(running, stream)), running.url)
    with Client(options.url) as client:
        target, services = find_target(client, options)
    protocol = create_protocol(options, target)
    problems: list[str] = []
    for service in services:
        for colour in ("white", "red", "green", "blue"):
            content = io.BytesIO()
            Image.new("RGB", (50, 40), colour if colour != "green" else "lime").save(content, "JPEG")
            request = protocol.request(service, [protocol.encode(content.getvalue(), service)], None, None)
            connection = Connection(options.url, options.timeout_s)
            connection.open()
            body = connection.exchange(request).body
            connection.close()
            if (seen := _seen(body)) != colour:
                problems.append(f"{service} sees {seen} in {colour}")
    return problems


def _seen(body: bytes) -> str:
    """The colour with the highest score, in binary, JSON tensors or TorchServe's object."""
    try:
        answer = json.loads(body)
    except ValueError:  # ends with 5 FP32 in binary
        scores = struct.unpack("<5f", body[-20:])
    else:
        if "outputs" not in answer:
            return str(max(answer, key=answer.get))
        scores = answer["outputs"][0]["data"]
    return COLOURS[scores.index(max(scores))]


@contextmanager
def _process(
    command: list[str | Path], folder: Path, is_ready: Callable[[], bool], more: Mapping[str, str]
) -> Iterator[None]:
    """A server until the end, its output in a file that is shown if it does not start."""
    log = folder / "server.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env={**os.environ, **more}, process_group=0
        )
        try:
            deadline = time.monotonic() + READY_S
            while not _answers(is_ready):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"{command[0]} did not start:\n{log.read_text()[:6000]}")
                time.sleep(0.2)
            yield
        finally:
            _end(process)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With its children: it leads a group of its own."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)


def _answers(is_ready: Callable[[], bool]) -> bool:
    try:
        return is_ready()
    except httpx.HTTPError:
        return False


def _got(url: str) -> bool:
    return httpx.get(url, trust_env=False).status_code == 200


def _mlserver(environment: Path, folder: Path) -> Iterator[Running]:
    http, grpc, metrics = (free_port() for _ in range(3))
    settings = {
        "host": "127.0.0.1",
        "http_port": http,
        "grpc_port": grpc,
        "metrics_port": metrics,
        "parallel_workers": 0,
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    for name, (datatype, shape) in INPUTS.items():
        model = {
            "name": name,
            "implementation": "mlserver_runtime.Colours",
            "inputs": [{"name": "image", "datatype": datatype, "shape": shape}],
            "outputs": [{"name": "scores", "datatype": "FP32", "shape": [-1, 5]}],
        }
        (folder / name).mkdir()
        (folder / name / "model-settings.json").write_text(json.dumps(model))
    url = f"http://127.0.0.1:{http}"
    command: list[str | Path] = [environment / "bin/mlserver", "start", folder]
    with _process(command, folder, lambda: _got(f"{url}/v2/health/ready"), {"PYTHONPATH": str(PEERS)}):
        yield Running(url, ("--protocol", "kserve"))


def _triton(environment: Path, folder: Path) -> Iterator[Running]:
    packages = next((environment / "lib").glob("python*")) / "site-packages"
    server = packages / "pytriton/tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    port = free_port()
    shutil.copytree(server / "backends", folder / "backends")
    shutil.copy(server / "python_backend_stubs" / version / "triton_python_backend_stub", folder / "backends/python")
    types = {"BYTES": "TYPE_STRING", "UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32"}
    for name, (datatype, shape) in INPUTS.items():
        model = folder / "models" / name
        (model / "1").mkdir(parents=True)
        paths = f"import sys\n\nsys.path[:0] = {[str(PEERS), str(packages)]}  # Triton's stub looks at no PYTHONPATH\n"
        (model / "1/model.py").write_text(paths + (PEERS / "triton_model.py").read_text())
        dims = list(shape[1:]) or [1]
        (model / "config.pbtxt").write_text(
            f'name: "{name}"\nbackend: "python"\nmax_batch_size: 8\n'
            f'input [{{ name: "image" data_type: {types[datatype]} dims: {dims} }}]\n'
            'output [{ name: "scores" data_type: TYPE_FP32 dims: [5] }]\n'
            "instance_group [{ kind: KIND_CPU }]\n"
        )
    command: list[str | Path] = [
        server / "bin/tritonserver",
        *("--model-repository", folder / "models", "--backend-directory", folder / "backends"),
        *("--model-control-mode", "explicit", "--load-model", "*", "--disable-auto-complete-config"),
        *("--http-address", "127.0.0.1", "--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false"),
    ]
    more = {"LD_LIBRARY_PATH": f"{packages / 'nvidia_pytriton.libs'}:{os.environ.get('LD_LIBRARY_PATH', '')}"}
    url = f"http://127.0.0.1:{port}"
    with _process(command, folder, lambda: _got(f"{url}/v2/health/ready"), more):
        yield Running(url, ("--protocol", "kserve"))


def _torchserve(environment: Path, folder: Path) -> Iterator[Running]:
    inference, management, metrics, grpc, grpc_management = (free_port() for _ in range(5))
    store = folder / "store"
    store.mkdir()
    subprocess.run(
        [
            *(environment / "bin/torch-model-archiver", "--model-name", "colours", "--version", "1.0"),
            *("--handler", PEERS / "torchserve_handler.py", "--extra-files", PEERS / "colours.py"),
            *("--export-path", store),
        ],
        check=True,
        cwd=folder,
    )
    (folder / "config.properties").write_text(
        f"inference_address=http://127.0.0.1:{inference}\nmanagement_address=http://127.0.0.1:{management}\n"
        f"metrics_address=http://127.0.0.1:{metrics}\ngrpc_inference_port={grpc}\n"
        f"grpc_management_port={grpc_management}\ndefault_workers_per_model=1\ndisable_token_authorization=true\n"
        "enable_model_api=true\n"
    )
    url = f"http://127.0.0.1:{inference}"
    model = f"http://127.0.0.1:{management}/models/colours"

    def is_ready() -> bool:
        described = httpx.get(model, trust_env=False)
        return described.status_code == 200 and any(
            worker["status"] == "READY" for worker in described.json()[0]["workers"]
        )

    command: list[str | Path] = [
        *(environment / "bin/torchserve", "--start", "--foreground", "--model-store", store),
        *("--ts-config", folder / "config.properties", "--models", "colours=colours.mar", "--disable-token-auth"),
        "--enable-model-api",
    ]
    own = {"PATH": f"{environment / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(folder)}  # its pid file lies there
    with _process(command, folder, is_ready, own):
        yield Running(url, ("--protocol", "torchserve", "--management-url", f"http://127.0.0.1:{management}"))


_KSERVE = (
    Stream("encoded files", (), ("files",)),
    Stream("UINT8 pixels", (), ("pixels",)),
    Stream("FP32 planes, normalised", NORMALISED, ("planes",)),
    Stream("two models, 4 images a request", (), ("files", "pixels"), batch_size=4),
    Stream("reload inside the clock", ("--reload-clock", "inside"), ("files",)),
)
_JSON = Stream(
    "any server's JSON, 4 images a request",
    (
        *("--protocol", "json", "--phases", "warm", "--url-template", "/v2/models/{service}/infer"),
        *("--body-template", str(PEERS / "mlserver_body.json"), "--answer-path", "outputs.0.data.4"),
    ),
    ("files",),
    ("unknown",),
    batch_size=4,
)
KNOWN: Mapping[str, Peer] = {
    peer.name: peer
    for peer in (
        Peer("mlserver", ("mlserver==1.7.1", "uvloop==0.21.0", "pillow"), _mlserver, (*_KSERVE, _JSON)),
        Peer(
            "triton",
            ("nvidia-pytriton==0.7.0", "pillow"),
            _triton,
            (*_KSERVE, Stream("UINT8 pixels in JSON", ("--tensors", "json"), ("pixels",))),
        ),
        Peer(
            "torchserve",
            (
                "torchserve==0.12.0",
                "torch-model-archiver==0.12.0",
                "torch",
                "numpy",
                "pyyaml",
                "pillow",
                "setuptools<81",
            ),
            _torchserve,
            (
                Stream("encoded files", (), ("colours",), requests=4),
                Stream(
                    "any server's path",
                    (
                        *("--protocol", "raw", "--phases", "warm", "--url-template", "/predictions/{service}"),
                        *("--answer-path", "red"),
                    ),
                    ("colours",),
                    ("unknown",),
                ),
            ),
        ),
    )
}

if __name__ == "__main__":
    sys.exit(main())
