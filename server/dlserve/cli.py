"""The command `dlserve`: options in, exit code out."""

import argparse
import io
import os
import sys
import tomllib
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

import configargparse

from dlserve import config
from dlserve.errors import StartError
from dlserve.eviction import EVICTIONS

_PREFIX = "DLSERVE_"
MOST_FRONT_ENDS = 64
_ABOUT = """\
Serve image models over DeepDetect's REST API, from one worker process per device, each with a model cache in the
device's memory. With no options it serves the model folders in models/repository on http://127.0.0.1:8080.

  dlmodels build squeezenet1_1 resnet18        build two models (random weights) in models/repository
  dlserve                                      serve them
  curl --data-binary @cat.jpg -H 'Content-Type: image/jpeg' http://127.0.0.1:8080/predict/resnet18
  dlserve --workers 8                          8 workers: one on each of 8 GPUs, or several on one device

Paths: /predict, /predict/SERVICE (image bytes), /services/NAME, /info, /metrics, /healthz, /readyz, /docs.
Stop it with Ctrl-C or SIGTERM: running requests are answered first; a second signal stops at once.
"""
_MORE = """\
Every option can also be an environment variable (DLSERVE_PORT=8081) or a line in the table [dlserve] of a TOML file given
with --config (port = 8081); the command line wins over the environment, the environment over the file.
Exit codes: 0 stopped in order, 1 could not start or had to be killed, 2 bad options.
"""


class _Toml(configargparse.TomlConfigParser):  # type: ignore[misc]
    """TOML with one table, [dlserve]; any other name in the file is an error."""

    def parse(self, stream: TextIO) -> dict[str, Any]:
        text = stream.read()
        try:
            strange = sorted(set(tomllib.loads(text)) - {"dlserve"})
        except tomllib.TOMLDecodeError as exc:
            raise configargparse.ConfigFileParserException(f"{stream.name}: {exc}") from exc
        if strange:
            raise configargparse.ConfigFileParserException(
                f"{stream.name}: unknown name {strange[0]!r}; put the options below a line [dlserve]"
            )
        parsed: dict[str, Any] = super().parse(io.StringIO(text))
        return parsed


def _number(kind: type[int] | type[float], least: float, most: float) -> Any:
    def convert(text: str) -> int | float:
        value = kind(text)
        if not least <= value <= most:
            raise configargparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    convert.__name__ = "number" if kind is float else "whole number"
    return convert


def parser() -> configargparse.ArgumentParser:
    """Every option of the server, declared once."""
    options = configargparse.ArgumentParser(
        prog="dlserve",
        usage="dlserve [options]",
        description=_ABOUT,
        epilog=_MORE,
        formatter_class=configargparse.RawDescriptionHelpFormatter,
        auto_env_var_prefix=_PREFIX,
        config_file_parser_class=_Toml(["dlserve"]),
        add_config_file_help=False,
        add_env_var_help=False,
        allow_abbrev=False,
    )
    options.add_argument("--config", is_config_file=True, metavar="FILE", help="TOML file with a table [dlserve]")
    _serving(options.add_argument_group("what is served, and where"))
    _working(options.add_argument_group("workers"))
    _limiting(options.add_argument_group("limits (beyond them a request gets a clear error)"))
    return options


def _serving(group: Any) -> None:
    group.add_argument(
        "--models-dir", metavar="DIR", help="folder of model folders, each a service (models/repository if there)"
    )
    group.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    group.add_argument(
        "--port", type=_number(int, 0, 65535), default=8080, help="port; 0 takes a free one (%(default)s)"
    )
    group.add_argument(
        "--data-root",
        action="append",
        default=[],
        metavar="DIR",
        help="let requests name image files below DIR; may be repeated",
    )
    group.add_argument(
        "--allow-url",
        action="append",
        default=[],
        metavar="HOST[:PORT]",
        help="let requests name http(s) URLs on HOST; may be repeated",
    )
    group.add_argument(
        "--api-key-file", metavar="FILE", help="file with a key that requests must send: Authorization: Bearer KEY"
    )
    group.add_argument(
        "--front-ends",
        type=_number(int, 1, MOST_FRONT_ENDS),
        default=1,
        metavar="N",
        help="processes that speak HTTP on the one port, each with its share of the connections; more than one pays where"
        " one at 100 %% of its core is what limits the rate, and cores are free (%(default)s)",
    )
    group.add_argument(
        "--front-end-timeout",
        type=_number(float, 1, 86400),
        default=30.0,
        metavar="S",
        help="seconds for which a front end's event loop may stand still before it is replaced (%(default)g)",
    )
    group.add_argument("--insecure", action="store_true", help="allow a --host beyond loopback without a key")
    group.add_argument(
        "--log-format", choices=["text", "json"], default="text", help="lines of the log, on stderr (%(default)s)"
    )


def _working(group: Any) -> None:
    group.add_argument(
        "--workers",
        type=_number(int, 1, 1024),
        metavar="N",
        help="worker processes (one per GPU; on CPU one per two cores)",
    )
    group.add_argument(
        "--devices", default="auto", metavar="LIST", help="auto, cpu, or cuda:0,cuda:1,... (%(default)s)"
    )
    group.add_argument(
        "--cache-mb",
        type=_number(int, 1, 1 << 30),
        metavar="N",
        help="MiB of weights that each worker may hold (a share of free memory)",
    )
    group.add_argument(
        "--host-cache-mb",
        type=_number(int, 0, 1 << 30),
        metavar="N",
        help="MiB of pinned memory where each worker keeps weights that left its GPU; 0: none (on GPUs a share of free"
        " memory, else 0)",
    )
    group.add_argument(
        "--eviction",
        choices=EVICTIONS,
        default="value",
        help="which model leaves for another: value (requests x load time / bytes), lru (%(default)s)",
    )
    group.add_argument(
        "--pin", default="", metavar="NAME,...", help="services that never leave for another; preloaded on every worker"
    )
    group.add_argument(
        "--drop-page-cache",
        action="store_true",
        help="a request that asks to start from disk reads the disk: weights and image leave the page cache first",
    )
    group.add_argument(
        "--preload", default="", metavar="NAME,...", help="services to load on every worker before it is ready, or all"
    )
    group.add_argument(
        "--max-batch",
        type=_number(int, 1, 4096),
        default=32,
        metavar="N",
        help="images that waiting calls may form a batch of (%(default)s)",
    )
    group.add_argument(
        "--batch-wait",
        type=_number(float, 0, 60_000),
        default=0.0,
        metavar="MS",
        help="milliseconds that a call waits for others to share its batch (%(default)g: it runs as soon as it can)",
    )
    group.add_argument(
        "--balance", choices=config.POLICIES, default="predicted", help="how a worker is chosen (%(default)s)"
    )
    group.add_argument(
        "--prefetch",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="let an idle worker with room load a model whose queue elsewhere costs more than half a load (%(default)s;"
        " only with --balance predicted)",
    )
    group.add_argument(
        "--seed", type=_number(int, 0, 1 << 62), default=0, metavar="N", help="of random and two-choices (%(default)s)"
    )
    group.add_argument(
        "--worker-timeout",
        type=_number(float, 0.1, 86400),
        default=120.0,
        metavar="S",
        help="seconds without progress after which a worker is replaced (%(default)g)",
    )
    group.add_argument(
        "--start-timeout",
        type=_number(float, 1, 86400),
        default=120.0,
        metavar="S",
        help="seconds that start-up may take (%(default)g)",
    )
    group.add_argument(
        "--drain-timeout",
        type=_number(float, 0, 86400),
        default=60.0,
        metavar="S",
        help="seconds that running requests get at the end (%(default)g)",
    )


def _limiting(group: Any) -> None:
    group.add_argument(
        "--queue",
        type=_number(int, 1, 1 << 20),
        default=128,
        metavar="N",
        help="calls waiting or running per worker; more get 429 (%(default)s)",
    )
    group.add_argument(
        "--queue-mb",
        type=_number(int, 1, 1 << 20),
        default=1024,
        metavar="N",
        help="MiB of request bodies held in all (%(default)s)",
    )
    group.add_argument(
        "--max-body-mb",
        type=_number(int, 1, 4095),
        default=64,
        metavar="N",
        help="MiB of one request body (%(default)s)",
    )
    group.add_argument(
        "--max-images", type=_number(int, 1, 65536), default=1024, metavar="N", help="images in one call (%(default)s)"
    )
    group.add_argument(
        "--max-pixels",
        type=_number(int, 1, 1 << 31),
        default=50_000_000,
        metavar="N",
        help="pixels of one image, read from its header (%(default)s)",
    )


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> config.Config:
    """Options -> Config. Exits with 2 and a sentence for bad options; raises StartError where the machine disagrees."""
    options = parser()
    known = {_PREFIX + action.dest.upper() for action in options._actions}  # noqa: SLF001  argparse offers no public list
    if strange := sorted(name for name in environment if name.startswith(_PREFIX) and name not in known):
        options.error(f"unknown environment variable {strange[0]}; see dlserve --help for the options")
    return config.resolve(options.parse_args(arguments, env_vars=environment), environment)


def main() -> int:
    """Run the server until it is stopped."""
    try:
        settings = parse(sys.argv[1:], os.environ)
        from dlserve.supervisor import Supervisor  # noqa: PLC0415  --help needs none of it

        return Supervisor(settings).run()
    except StartError as exc:
        print(f"dlserve: {exc}", file=sys.stderr)
        return 1
