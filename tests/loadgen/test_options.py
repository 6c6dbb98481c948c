"""dlload.options: what a user or a web page may write, and what is said when it cannot be used."""

import argparse
from pathlib import Path

import pytest
from dlload.errors import OptionError
from dlload.options import StreamOptions, add_options, read_options, with_preset
from dlload.protocols.tensors import Normalization

HOST = "http://127.0.0.1:8080"


def parse(*arguments: str, host: str = HOST) -> StreamOptions:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return read_options(parser.parse_args(arguments), host)


def test_the_defaults_of_the_parser_are_those_of_the_options() -> None:
    assert parse() == StreamOptions(url=HOST)


def test_a_slash_at_the_end_of_the_address_does_not_matter() -> None:
    assert parse(host=HOST + "/").url == HOST


@pytest.mark.parametrize(
    ("arguments", "services"),
    [
        (["--services", "all"], ()),
        (["--services", "b,a"], ("b", "a")),
        (["--services", "ResNet18"], ("resnet18",)),
        (["--models=a", "--models=b"], ("a", "b")),
        (["--models", "a b"], ("a", "b")),
    ],
)
def test_services_come_in_every_spelling(arguments: list[str], services: tuple[str, ...]) -> None:
    assert parse(*arguments).services == services


def test_the_names_of_2018_mean_the_options_of_today(tmp_path: Path) -> None:
    old = parse(
        *("--models", "a", "--img_dir", "pictures", "--result_dir", "out", "--model_dir", str(tmp_path)),
        *("--gpu_num", "8", "--batchsize", "4", "--times", "77"),
    )
    new = parse(
        *("--services", "a", "--images", "pictures", "--results", "out", "--model-dir", str(tmp_path)),
        *("--gpu-num", "8", "--batch-size", "4", "--requests", "77"),
    )
    assert old == new
    assert (new.load.load.requests, new.batch_size, new.gpu_num, new.results) == (77, 4, 8, Path("out"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--phases", "warm,cold"], "--phases cold: no such phase; there are warm, host, disk"),
        (["--phases", "warm,warm"], "twice"),
        (["--services", "a,b,a"], "twice"),
        (["--requests", "0"], "--requests 0: at least 1"),
        (["--batch-size", "-1"], "--batch-size -1: at least 1"),
        (["--gpu-num", "-8"], "--gpu-num -8: at least 1"),
        (["--gpu-num", "0"], "--gpu-num 0: at least 1"),
        (["--results", "~nobody-of-that-name/x"], "--results ~nobody-of-that-name/x: .*write the path in full"),
        (["--timeout", "0"], "--timeout 0.0: a number of seconds above 0"),
        (["--timeout", "inf"], "a number of seconds above 0"),
        (["--protocol", "raw", "--batch-size", "2"], "one image a request"),
        (["--api-key-file", "/nowhere/key"], "cannot be read"),
    ],
)
def test_an_option_that_cannot_be_used_says_why(arguments: list[str], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse(*arguments)


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "ftp://x", "http://", "http://x:port", "http://\u00e9.example", ""])
def test_an_address_that_is_none_says_how_to_write_one(host: str) -> None:
    with pytest.raises(OptionError, match=r"write it as http://127\.0\.0\.1:8080"):
        parse(host=host)


def test_the_key_is_the_line_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("secret\n")
    assert parse("--api-key-file", str(file)).api_key == "secret"


@pytest.mark.parametrize("content", ["", "\n", "two\nlines", "h\u00e9"])
def test_a_key_that_would_break_the_header_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "key"
    file.write_text(content)
    with pytest.raises(OptionError, match="holds no key"):
        parse("--api-key-file", str(file))


def test_a_preset_runs_at_once_and_asks_its_networks_or_those_of_them_that_are_named() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--headless", action="store_true")
    add_options(parser)
    assert parser.parse_args(["--preset", "p"]).headless
    assert not parser.parse_args([]).headless
    assert with_preset(parse("--preset", "p"), ("a", "b")).services == ("a", "b")
    assert with_preset(parse("--preset", "p", "--services", "b"), ("a", "b")).services == ("b",)
    with pytest.raises(OptionError, match="--services c: not in --preset p, which has a, b"):
        with_preset(parse("--preset", "p", "--services", "c,b"), ("a", "b"))


def test_a_web_page_may_send_empty_fields() -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    given = parser.parse_args([])
    given.services = given.phases = given.results = given.api_key_file = given.model_dir = given.gpu_num = ""
    assert read_options(given, HOST) == StreamOptions(url=HOST)


@pytest.mark.parametrize("protocol", ["kserve", "torchserve"])
def test_names_of_other_servers_keep_their_letters(protocol: str) -> None:
    assert parse("--protocol", protocol, "--services", "ResNet18").services == ("ResNet18",)


def test_options_for_other_servers_are_read(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"{}")
    (tmp_path / "key").write_text("secret\n")
    asking = parse(
        *("--protocol", "kserve", "--tensors", "binary", "--input-tensor", "x:FP32:-1,3,8,8", "--bgr"),
        *("--scale", "0.5", "--mean", "1,2,3", "--std", "4", "--cold", "reload", "--reload-clock", "inside"),
        *("--create-body", str(tmp_path / "body"), "--mllib", "caffe"),
    ).asking
    assert asking.normalization == Normalization(0.5, (1.0, 2.0, 3.0), (4.0,), is_bgr=True)
    assert asking.input_tensor is not None
    assert asking.input_tensor.size == (8, 8, 3)
    assert (asking.tensors, asking.cold, asking.reload_clock) == ("binary", "reload", "inside")
    assert (asking.create_body, asking.mllib) == (b"{}", "caffe")
    asking = parse(
        *("--protocol", "torchserve", "--management-url", "http://h:1/", "--answer-path", "a.0"),
        *("--management-key-file", str(tmp_path / "key")),
    ).asking
    assert (asking.management_url, asking.management_key) == ("http://h:1", "secret")
    assert asking.answer_path is not None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--url-template", "/x"], "--url-template means nothing with --protocol auto; .* --protocol raw or json"),
        (["--protocol", "raw", "--answer-path", "a"], "--answer-path means nothing with --protocol raw"),
        (["--protocol", "deepdetect", "--input-tensor", "x:BYTES:-1"], "--input-tensor means nothing"),
        (["--protocol", "kserve", "--management-url", "http://h"], "--management-url means nothing"),
        (["--protocol", "json"], "needs --url-template PATH and --body-template FILE"),
        (["--protocol", "raw", "--url-template", "/{model}"], "{model} is no placeholder"),
        (["--protocol", "raw", "--url-template", "/x", "--cold", "reload"], "--cold reload"),
        (["--protocol", "torchserve", "--management-url", "h:1"], "--management-url h:1: no address"),
        (["--protocol", "torchserve", "--batch-size", "2"], "one image a request"),
        (["--create-body", "/nowhere/body"], "--create-body /nowhere/body: cannot be read"),
        (["--mean", "a"], "--mean a: write one number"),
        (["--std", "0"], "no 0"),
    ],
)
def test_an_option_for_another_server_that_would_do_nothing_is_refused(arguments: list[str], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        parse(*arguments)
