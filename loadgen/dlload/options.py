"""The stream's own options: how they are asked for, and one frozen value of them, checked before anything is sent."""

import argparse
import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

from dlclient.api_key import read_api_key
from dlclient.errors import ApiKeyError

from dlload.errors import OptionError
from dlload.load_options import FILES, MULTI_STREAM_SAMPLES, NONE, LoadOptions, add_load_options, read_load_options
from dlload.protocol_options import (
    PROTOCOL_COMMAND_LINE_ONLY,
    ProtocolOptions,
    add_protocol_options,
    read_protocol_options,
)

Temperature = Literal["warm", "host", "disk"]
Variety = Literal["unique", "same"]
TEMPERATURES: tuple[Temperature, ...] = ("warm", "host", "disk")
PROTOCOLS = ("auto", "deepdetect", "raw", "kserve", "torchserve", "json")

COMMAND_LINE_ONLY = (
    *("api_key_file", "images", "results", "overwrite", "model_dir", "preset", "limits", "check_answers"),
    *PROTOCOL_COMMAND_LINE_ONLY,
    *FILES,
)
"""Options that read, write or replace files or start programs: not for whoever can reach the web page."""

TITLE = "Stream options"
DESCRIPTION = """\
A random mix of models and images, drawn beforehand from the seed, is sent once per phase: warm (weights in the
memory of the device) and disk (weights re-read for each request). Without --rate each Locust user (-u) sends its next
request when its last one is answered. The result folder gets plan.jsonl, requests.jsonl, run.json and report.html. Exit code 0
only if the result is valid. A configuration file (--config FILE: lines of "key = value", or TOML with the keys under
[tool.locust]) takes these names without the dashes, among them the ones of the 2018 stream test: models, img_dir,
result_dir, model_dir, gpu_num, batchsize, times."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What the user asked for. `services` is empty for all that the server has."""

    url: str
    services: tuple[str, ...] = ()
    mix: str = "uniform"
    images: str = "sample"
    load: LoadOptions = LoadOptions()
    phases: tuple[Temperature, ...] = ("warm", "disk")
    results: Path | None = None
    overwrite: bool = False
    batch_size: int = 1
    protocol: str = "auto"
    api_key: str | None = None
    timeout_s: float = 60.0
    model_dir: Path | None = None
    gpu_num: int | None = None
    preset: str | None = None
    limits: Path | None = None
    keeps_answers: bool = False
    check_answers: Path | None = None
    audit: bool = False
    """Whether the server keeps answers."""
    variety: Variety | None = None
    """Of the images of a run that an audit makes; None: as drawn."""
    asking: ProtocolOptions = field(default_factory=ProtocolOptions)
    """For servers other than dlserve."""


class _Preset(argparse.Action):
    """Stores the name. One command that does it all should run, not wait for a press of Start: so also --headless."""

    def __call__(
        self, _parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, _option: str | None = None
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.headless = True


def add_options(parser: argparse.ArgumentParser, only: Container[str] | None = None) -> None:
    """Add the stream's group of options to Locust's parser. `only`: those of them (by first name) that another command takes."""
    default = StreamOptions(url="")
    group = parser.add_argument_group(TITLE, DESCRIPTION if only is None else None)

    def add(*names: str, **settings: Any) -> None:
        if only is not None and names[0] not in only:
            return
        action = group.add_argument(*names, **settings)
        shown = action.dest not in COMMAND_LINE_ONLY
        vars(action).update(include_in_web_ui=shown, is_secret=False, is_required=False, is_multiple=False)  # Locust's

    # "append", so that a configuration file may give a list where the command line has commas
    add(
        "--services",
        "--models",
        action="append",
        metavar="A,B|all",
        help="Services to ask. Default: all of the server's.",
    )
    add(
        "--mix",
        default=default.mix,
        metavar="MIX",
        help="How often each service is asked: uniform, zipf:S (the k-th service with weight k**-S), or weights such "
        "as a=3,b=1. Default: uniform.",
    )
    add(
        "--images",
        "--img-dir",
        "--img_dir",
        default=default.images,
        metavar="DIR|sample",
        help="Folder of images to send, or sample: the photographs of scikit-image at three sizes. Default: sample.",
    )
    add(
        "--requests",
        "--times",
        type=int,
        metavar="N",
        help="Requests per phase. Default: 500; in an open loop that ends by itself, all of it.",
    )
    add(
        "--phases",
        action="append",
        metavar="P,P",
        help="Phases, one after the other: warm, host (GPU only), disk. Default: warm,disk.",
    )
    add("--seed", type=int, default=1, metavar="N", help="Same seed, same requests. Default: 1.")
    add_load_options(add)
    add(
        "--results",
        "--result-dir",
        "--result_dir",
        metavar="DIR",
        help="The result folder itself; it must be new or empty. Default: results/stream-DATE-TIME.",
    )
    add(
        "--overwrite", action="store_true", help="Let --results name the folder of an earlier stream, and replace that."
    )
    add("--no-report", action="store_true", help="Leave report.html out; dlreport can make it later from the folder.")
    add("--batch-size", "--batchsize", type=int, metavar="N", help="Images per request. Default: 1.")
    add(
        "--protocol",
        choices=PROTOCOLS,
        default=default.protocol,
        help="deepdetect: JSON with base64 images, works with any DeepDetect-style server. raw: the image's bytes as "
        "the body, one image a request, of dlserve, or of any server by --url-template. kserve: Open Inference Protocol v2 "
        "(Triton, MLServer, OpenVINO Model Server, dlserve). torchserve. json: any server, by --body-template. "
        "auto: raw where it works, kserve where there is no /info. Default: auto.",
    )
    add("--api-key-file", metavar="FILE", help="File with the key that the server wants, if it wants one.")
    add(
        "--timeout",
        type=float,
        default=default.timeout_s,
        metavar="S",
        help="Seconds to wait for an answer. Default: 60.",
    )
    add(
        "--model-dir",
        "--model_dir",
        metavar="DIR",
        help="A service of --services or --preset that the server lacks is created there from the folder DIR/NAME.",
    )
    add(
        "--preset",
        action=_Preset,
        metavar="NAME",
        help="Ask the networks of a preset of `dlmodels list --preset NAME`, such as stream-2018 (of them, those of "
        "--services if given). With --host, that server is asked. Without, all is done here: what is missing is built into "
        "--model-dir (models/repository), this machine's limits are measured, and a dlserve with --gpu-num workers (one per "
        "GPU; without a GPU, 2), as many users as that unless -u says otherwise, is started and stopped again. Implies "
        "--headless; --headful keeps the web page.",
    )
    add(
        "--limits",
        metavar="FILE",
        help="What `dlmodels limits --output FILE` measured on the server's machine; kept with the result, whose report then "
        "shows each load as a fraction of its limit.",
    )
    add(
        "--keep-answers",
        action="store_true",
        help="Keep the most probable class of every tenth answer in its record, so that later runs can be checked against it.",
    )
    add(
        "--check-answers",
        metavar="DIR",
        help="Compare every tenth answer with those of the run in DIR, which kept them: a faster server that answers otherwise fails.",
    )
    add(
        "--audit",
        choices=(NONE, "caching"),
        default=NONE,
        help="In place of a measurement: find out whether the server keeps answers, by sending unique images, then one again and again.",
    )
    if only is None:
        # Locust prints its --help before it has read a locustfile (its issue 2917), so that shows nothing of this
        group.add_argument("--stream-help", action="help", help="Show all options, Locust's and these, and exit.")
    add(
        "--gpu-num",
        "--gpu_num",
        type=int,
        metavar="N",
        help="Stop unless the server runs with N workers; one that --preset starts gets as many.",
    )
    add_protocol_options(add)


def read_options(given: argparse.Namespace, host: str) -> StreamOptions:
    """Check what Locust parsed (or its web page sent). Raises OptionError."""
    phases = _names(given.phases, "--phases") or StreamOptions(url="").phases
    for phase in phases:
        if phase not in TEMPERATURES:
            raise OptionError(f"--phases {phase}: no such phase; there are {', '.join(TEMPERATURES)}")
    services = _names(given.services, "--services")
    if given.protocol not in PROTOCOLS:
        raise OptionError(f"--protocol {given.protocol}: not one; use {', '.join(PROTOCOLS)}")
    load = read_load_options(given)
    batch_size = _at_least(1, 1 if given.batch_size in (None, "") else given.batch_size, "--batch-size")
    if load.scenario == "MultiStream" and not given.batch_size:
        batch_size = MULTI_STREAM_SAMPLES
    if given.protocol in {"raw", "torchserve"} and batch_size != 1:
        raise OptionError(
            f"--protocol {given.protocol} carries one image a request; drop --batch-size or use --protocol deepdetect"
        )
    asking = read_protocol_options(given, given.protocol)
    if given.protocol in {"auto", "deepdetect", "raw"} and asking.url_template is None:
        services = tuple(name.lower() for name in services)  # as DeepDetect does
    return StreamOptions(
        url=_url(host),
        services=() if services == ("all",) else services,
        mix=given.mix,
        images=given.images,
        load=load,
        phases=cast(tuple[Temperature, ...], phases),
        results=_path(given.results, "--results") if given.results else None,
        overwrite=given.overwrite,
        batch_size=batch_size,
        protocol=given.protocol,
        api_key=_api_key(given.api_key_file),
        timeout_s=_seconds(given.timeout, "--timeout"),
        model_dir=_path(given.model_dir, "--model-dir").absolute() if given.model_dir else None,
        gpu_num=_at_least(1, given.gpu_num, "--gpu-num") if given.gpu_num not in (None, "") else None,
        preset=given.preset or None,
        limits=_path(given.limits, "--limits") if given.limits else None,
        keeps_answers=bool(given.keep_answers or given.check_answers),
        check_answers=_path(given.check_answers, "--check-answers") if given.check_answers else None,
        audit=_audit(given),
        asking=asking,
    )


def _audit(given: argparse.Namespace) -> bool:
    if given.audit in (None, "", NONE):
        return False
    if given.audit != "caching":
        raise OptionError(f"--audit {given.audit}: there is one, caching")
    if given.find_rate or given.plan:
        raise OptionError("--audit makes runs of its own; drop --find-rate and --plan")
    return True


def with_preset(options: StreamOptions, networks: Sequence[str]) -> StreamOptions:
    """The same options with the preset's networks as the services, or those of them that were asked for.

    Raises OptionError.
    """
    if strange := [name for name in options.services if name not in networks]:
        raise OptionError(
            f"--services {','.join(strange)}: not in --preset {options.preset}, which has {', '.join(networks)}"
        )
    return replace(options, services=options.services or tuple(networks))


def _names(given: str | Iterable[str] | None, option: str) -> tuple[str, ...]:
    """Names out of "a,b" (the web page), ["a,b"] (the command line) or ["a", "b"] (a configuration file)."""
    text = given if isinstance(given, str) else ",".join(given or ())
    names = tuple(name for name in re.split(r"[,\s]+", text) if name)
    if len(set(names)) != len(names):
        raise OptionError(f"{option} {text}: a name is there twice; give each once")
    return names


def _url(host: str) -> str:
    parts = urlsplit(host)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and host.isascii() and parts.port != 0
    except ValueError:  # a port that is no number
        usable = False
    if not usable:
        raise OptionError(f"--host {host}: no address of a server; write it as http://127.0.0.1:8080")
    return host.rstrip("/")


def _at_least(least: int, given: int | str, option: str) -> int:
    number = int(given)
    if number < least:
        raise OptionError(f"{option} {given}: at least {least} is needed")
    return number


def _seconds(given: float | str, option: str) -> float:
    seconds = float(given)
    if not 0 < seconds < float("inf"):
        raise OptionError(f"{option} {given}: a number of seconds above 0 is needed")
    return seconds


def _path(given: str, option: str) -> Path:
    try:
        return Path(given).expanduser()
    except RuntimeError as exc:  # ~somebody who has no home here
        raise OptionError(f"{option} {given}: {exc}; write the path in full") from exc


def _api_key(file: str | None) -> str | None:
    if not file:
        return None
    try:
        return read_api_key(_path(file, "--api-key-file"))
    except ApiKeyError as exc:
        raise OptionError(str(exc)) from exc
