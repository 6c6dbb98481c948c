"""The options for servers other than dlserve: how they are asked, and how they are made cold."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args
from urllib.parse import urlsplit

from dlload.errors import OptionError
from dlload.protocols.answer import AnswerPath
from dlload.protocols.raw import UrlTemplate
from dlload.protocols.tensors import InputForm, Normalization, read_input

Cold = Literal["auto", "cache", "reload"]
Clock = Literal["outside", "inside"]
Tensors = Literal["auto", "json", "binary"]
COLD: tuple[Cold, ...] = get_args(Cold)
CLOCKS: tuple[Clock, ...] = get_args(Clock)
TENSORS: tuple[Tensors, ...] = get_args(Tensors)

_MLLIB = "torch"
"""Of services that are created from --model-dir."""

PROTOCOL_COMMAND_LINE_ONLY = ("body_template", "create_body", "management_url", "management_key_file")
"""Options that read files or send keys: not for whoever can reach the web page."""


@dataclass(frozen=True, slots=True)
class ProtocolOptions:
    """What is asked of a server that is not dlserve."""

    url_template: str | None = None
    body_template: bytes | None = None
    """Content of the file."""
    answer_path: AnswerPath | None = None
    tensors: Tensors = "auto"
    input_tensor: InputForm | None = None
    """In place of what the models tell of their inputs."""
    normalization: Normalization = field(default_factory=Normalization)
    management_url: str | None = None
    management_key: str | None = None
    cold: Cold = "auto"
    reload_clock: Clock = "outside"
    create_body: bytes | None = None
    """Content of the file."""
    mllib: str = _MLLIB


def add_protocol_options(add: Callable[..., None]) -> None:
    """`add`: takes what argparse's add_argument does."""
    _add_asking(add)
    _add_tensors(add)
    _add_cold(add)


def _add_asking(add: Callable[..., None]) -> None:
    add(
        "--url-template",
        metavar="PATH",
        help="--protocol raw, json: the path to POST to, such as /predictions/{service}; {cache} and {worker} may stand "
        "in it too. The services are those of --services.",
    )
    add(
        "--body-template",
        metavar="FILE",
        help='--protocol json: a file with the request\'s JSON, such as {"instances": [{"b64": "{image_base64}"}]}. '
        "{service}, {cache}, {worker}, {batch_size} may stand in its strings too; a list whose only element holds "
        "{image_base64} has one per image.",
    )
    add(
        "--answer-path",
        metavar="A.0.B",
        help="--protocol raw with --url-template, json, torchserve: what must be in a JSON answer for it to be a good "
        "one, such as predictions.0.label. Default: any 2xx with a body is good.",
    )
    add(
        "--management-url",
        metavar="URL",
        help="--protocol torchserve: its management API. Default: port 8081 of the same host.",
    )
    add("--management-key-file", metavar="FILE", help="--protocol torchserve: file with the management API's key.")


def _add_tensors(add: Callable[..., None]) -> None:
    add(
        "--tensors",
        choices=TENSORS,
        default="auto",
        help="--protocol kserve: how tensors are sent. auto: binary where the server says that it takes them so.",
    )
    add(
        "--input-tensor",
        metavar="NAME:TYPE:SHAPE",
        help="--protocol kserve: the models' input, where they do not tell it or another is meant: image:BYTES:-1 "
        "(encoded files), image:UINT8:-1,224,224,3, image:FP32:-1,3,224,224. Images for UINT8 and FP32 are decoded and "
        "resized before the clock starts.",
    )
    add("--scale", type=float, default=1.0, metavar="S", help="For FP32 inputs: (x * S - mean) / std. Default: 1.")
    add("--mean", default="0", metavar="M,M,M", help="For FP32 inputs, per channel in the order sent. Default: 0.")
    add("--std", default="1", metavar="D,D,D", help="For FP32 inputs, per channel in the order sent. Default: 1.")
    add("--bgr", action="store_true", help="For UINT8 and FP32 inputs: channels in the order BGR, not RGB.")


def _add_cold(add: Callable[..., None]) -> None:
    add(
        "--cold",
        choices=COLD,
        default="auto",
        help="How a request of the disk phase finds its model cold. cache: by parameters.mllib.cache, dlserve only. "
        "reload: the service is deleted and created (DeepDetect: with --create-body or --model-dir; TorchServe), or "
        "unloaded and loaded (KServe), before each request. auto: cache for dlserve, reload where it can be done.",
    )
    add(
        "--reload-clock",
        choices=CLOCKS,
        default="outside",
        help="Whether a reload is a part of the latency of the request after it. Default: outside.",
    )
    add(
        "--create-body",
        metavar="FILE",
        help="For --cold reload of a DeepDetect-style server: the JSON that its services are created with; {service} "
        "may stand in its strings.",
    )
    add(
        "--mllib",
        default=_MLLIB,
        metavar="NAME",
        help=f"mllib of services that are created from --model-dir. Default: {_MLLIB}.",
    )


def read_protocol_options(given: argparse.Namespace, protocol: str) -> ProtocolOptions:
    """Check what was parsed. Raises OptionError."""
    options = ProtocolOptions(
        url_template=given.url_template or None,
        body_template=_content(given.body_template, "--body-template"),
        answer_path=AnswerPath.read(given.answer_path) if given.answer_path else None,
        tensors=cast(Tensors, _one_of(TENSORS, given.tensors, "--tensors")),
        input_tensor=read_input(given.input_tensor) if given.input_tensor else None,
        normalization=Normalization(
            float(given.scale), _numbers(given.mean, "--mean"), _numbers(given.std, "--std"), bool(given.bgr)
        ),
        management_url=_url(given.management_url) if given.management_url else None,
        management_key=_key(given.management_key_file),
        cold=cast(Cold, _one_of(COLD, given.cold, "--cold")),
        reload_clock=cast(Clock, _one_of(CLOCKS, given.reload_clock, "--reload-clock")),
        create_body=_content(given.create_body, "--create-body"),
        mllib=given.mllib or _MLLIB,
    )
    _check_fit(options, protocol)
    return options


def _check_fit(options: ProtocolOptions, protocol: str) -> None:
    """An option that would be ignored is a mistake."""
    templated = protocol == "json" or (protocol == "raw" and options.url_template is not None)
    fits = {
        "--url-template": (options.url_template, protocol in {"raw", "json"}, "--protocol raw or json"),
        "--body-template": (options.body_template, protocol == "json", "--protocol json"),
        "--answer-path": (
            options.answer_path,
            templated or protocol == "torchserve",
            "--protocol json, torchserve, or raw with --url-template",
        ),
        "--management-url": (options.management_url, protocol == "torchserve", "--protocol torchserve"),
        "--management-key-file": (options.management_key, protocol == "torchserve", "--protocol torchserve"),
        "--input-tensor": (options.input_tensor, protocol in {"kserve", "auto"}, "--protocol kserve"),
    }
    for option, (value, is_used, where) in fits.items():
        if value is not None and not is_used:
            raise OptionError(f"{option} means nothing with --protocol {protocol}; leave it out, or use {where}")
    if protocol == "json" and (options.url_template is None or options.body_template is None):
        raise OptionError("--protocol json needs --url-template PATH and --body-template FILE")
    if options.url_template is not None:
        UrlTemplate(options.url_template)
    if options.cold == "reload" and templated:
        raise OptionError("--cold reload: a server that is asked by templates cannot be told to reload; leave it out")


def _one_of(known: tuple[str, ...], given: str, option: str) -> str:
    if given not in known:
        raise OptionError(f"{option} {given}: not one; use {', '.join(known)}")
    return given


def _numbers(given: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(one) for one in str(given).split(","))
    except ValueError as exc:
        raise OptionError(f"{option} {given}: write one number, or three with commas between") from exc


def _content(file: str | None, option: str) -> bytes | None:
    if not file:
        return None
    try:
        return Path(file).expanduser().read_bytes()
    except (OSError, RuntimeError) as exc:
        raise OptionError(f"{option} {file}: cannot be read: {exc}; name a file with JSON in it") from exc


def _url(given: Any) -> str:
    parts = urlsplit(given)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and given.isascii() and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise OptionError(f"--management-url {given}: no address; write it as http://127.0.0.1:8081")
    return str(given).rstrip("/")


def _key(file: str | None) -> str | None:
    content = _content(file, "--management-key-file")
    if content is None:
        return None
    try:
        key = content.decode("ascii").strip()
    except UnicodeDecodeError:
        key = ""
    if not key or not key.isprintable():
        raise OptionError(f"--management-key-file {file}: holds no key; put one line of plain characters into it")
    return key
