"""The `dlbench` command: suites of points, or single questions, measured on this machine; result folders out."""

import argparse
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from dlmodels.zoo.catalog import CATALOG

from dlclient.bench import init, single
from dlclient.bench.balance import options as balance_options
from dlclient.bench.balance.run import Comparison, balance_table, run_comparison
from dlclient.bench.changes import Change, parse_set
from dlclient.bench.checking import check, unsupported
from dlclient.bench.known import Known, look
from dlclient.bench.matrix import axis
from dlclient.bench.naming import describe
from dlclient.bench.point_process import CHILD
from dlclient.bench.problems import Source
from dlclient.bench.reading import find_suite, read_suite, ready_suites
from dlclient.bench.results_table import results_table
from dlclient.bench.run import Errand, default_results, run_suite
from dlclient.bench.schema import suite_schema_text
from dlclient.bench.suite import INPROC, Suite
from dlclient.bench.tuning import findings
from dlclient.bench_result import SUITE_FILE, Setting
from dlclient.environment import environment
from dlclient.errors import ClientError, ResultError, SuiteError
from dlclient.local_server import terminated
from dlclient.results import RUN_FILE

_ALL, _SOME_FAILED, _NOT_RUN, _INTERRUPTED = 0, 1, 2, 130

_DESCRIPTION = """\
How fast this machine infers, offline: every point in a process of its own, a result folder at the end.

  dlbench list                                  the suites that are ready
  dlbench run quick                             under a minute
  dlbench run deepdetect-report --set models=squeezenet1_1,batch_sizes=1,2,4
  dlbench run SUITE.toml --target http://127.0.0.1:8080
  dlbench run results/dlbench-quick-... --resume   go on with what was interrupted
  dlbench latency resnet50 --engine torch,openvino --batch-sizes 1,8
  dlbench balance                               compare the server's balancing policies
  dlbench init                                  asks, then writes a suite
  dlbench check SUITE.toml                      what a suite would run, and all that is wrong with it
"""
_BALANCE = """\
Compare the server's balancing policies on simulated workers: the models of the 2018 stream (published forwards and sizes,
loads at a stated bandwidth), every cell of policy x residency x mix x load in a discrete-event model that runs the server's
own code, and some of them in real processes over HTTP. Both see the same requests; whether they agree is told.
"""
_EPILOG = """\
exit status: 0 every point has figures; 1 some have not: each is a row that says why; 2 nothing was run: the suite, the folder or
the command line was wrong; 130 interrupted: --resume goes on.
"""


def main(argv: Sequence[str] | None = None, child: Sequence[str] = CHILD) -> int:
    """Run the command; the exit status. `child`: the command of the process that measures a point."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
    before = signal.signal(signal.SIGTERM, terminated)
    try:
        status: int = options.run(options, ("dlbench", *arguments), child)
    except ClientError as exc:
        print(f"dlbench: {exc}", file=sys.stderr)
        return _NOT_RUN
    except KeyboardInterrupt:
        print("dlbench: interrupted; nothing it started is left running", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # `dlbench list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _ALL
    finally:
        signal.signal(signal.SIGTERM, before)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlbench", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", title="commands")
    run = commands.add_parser("run", help="measure the points of a suite", epilog=_EPILOG)
    run.add_argument(
        "suite", metavar="SUITE", help="a TOML file, the name of a ready suite, or a result folder to --resume"
    )
    _add_changes(run)
    _add_running(run)
    run.set_defaults(run=_run)
    for question, (text, _) in single.QUESTIONS.items():
        asked = commands.add_parser(question, help=text, description=f"Measure {text}.", epilog=_EPILOG)
        single.add_options(asked, question)
        asked.add_argument("--set", action="append", default=[], metavar="KEY=VALUE,...", help="as of `dlbench run`")
        _add_running(asked)
        asked.set_defaults(run=_ask)
    checked = commands.add_parser("check", help="what a suite would run, and all that is wrong with it")
    checked.add_argument("suite", metavar="SUITE", help="a TOML file, or the name of a ready suite")
    _add_changes(checked)
    checked.set_defaults(run=_check)
    balance = commands.add_parser(
        "balance",
        help="which balancing policy serves best: in processes, and in a model of 1 to 1,024 workers",
        description=_BALANCE,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    balance_options.add_options(balance)
    balance.set_defaults(run=_balance)
    init.add_parser(commands)
    commands.add_parser("list", help="the suites that are ready").set_defaults(run=_list)
    commands.add_parser("schema", help="the JSON schema of suites").set_defaults(run=_schema)
    return parser


def _add_changes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE,...",
        help="other values of a suite's keys, in all its matrices: batch_sizes=1,2,models=vgg16,budget.max_s=5,options.hint=latency",
    )  # fmt: skip
    parser.add_argument("--target", metavar="inproc|URL", help="a server in place of the engines: http://HOST:PORT")


def _add_running(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--results", type=Path, metavar="DIR", help="the result folder (default: results/dlbench-NAME-TIME)"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the points that the result folder lacks")
    parser.add_argument(
        "--retry-failed", action="store_true", help="with --resume: measure those that failed again, too"
    )
    parser.add_argument(
        "--api-key-file", type=Path, metavar="FILE", help="for a server that wants a key: the file that holds it"
    )


def _run(options: argparse.Namespace, command: tuple[str, ...], child: Sequence[str]) -> int:
    folder = Path(options.suite)
    if folder.is_dir() and (folder / RUN_FILE).is_file():
        if not (folder / SUITE_FILE).is_file():
            raise ResultError(
                f"{folder} has no {SUITE_FILE}: give the suite that it was begun with, and --results {folder} --resume"
            )
        if not options.resume or options.results not in (None, folder):
            raise SuiteError(f"{folder} is a result: add --resume to go on with it, or name a suite")
        options.results = folder
        path = folder / SUITE_FILE
    else:
        path = find_suite(options.suite)
    suite, source = read_suite(path, _changes(options))
    return _measure(suite, source, options, command, child)


def _ask(options: argparse.Namespace, command: tuple[str, ...], child: Sequence[str]) -> int:
    suite, source = single.build_suite(options.command, options)
    return _measure(suite, source, options, command, child)


def _measure(
    suite: Suite, source: Source, options: argparse.Namespace, command: tuple[str, ...], child: Sequence[str]
) -> int:
    if options.resume and options.results is None:
        raise SuiteError("--resume needs the result folder to go on with: add --results DIR")
    if options.retry_failed and not options.resume:
        raise SuiteError("--retry-failed is for a result that is there: add --resume")
    api_key = _api_key(options.api_key_file)
    known = _known(suite)
    settings = check(suite, source, known)
    errand = Errand(
        suite=suite,
        settings=settings,
        known=known,
        results=options.results or default_results(suite.name),
        command=command,
        resume=options.resume,
        retry_failed=options.retry_failed,
        api_key=api_key,
        child=child,
    )
    try:
        points = run_suite(errand)
    except KeyboardInterrupt:
        print(f"go on with: dlbench run {shlex.quote(str(errand.results))} --resume", file=sys.stderr)
        raise
    print(results_table(points))
    print("".join(f"{line}\n" for line in findings(points)), end="")
    print(f"{errand.results}: the result; dlreport {shlex.quote(str(errand.results))} draws it")
    return _SOME_FAILED if any(point.failure is not None for point in points) else _ALL


def _balance(options: argparse.Namespace, command: tuple[str, ...], _child: Sequence[str]) -> int:
    if options.resume and options.results is None:
        raise SuiteError("--resume needs the result folder to go on with: add --results DIR")
    results = options.results or default_results("balance")
    comparison = Comparison(balance_options.read_options(options), results, command, options.resume)
    try:
        cells = run_comparison(comparison)
    except KeyboardInterrupt:
        print(f"go on with: the same command, --results {shlex.quote(str(results))} --resume", file=sys.stderr)
        raise
    print(balance_table(cells))
    print(f"{results}: the result; dlreport {shlex.quote(str(results))} draws it")
    return _SOME_FAILED if any(cell.figures is None for cell in cells) else _ALL


def _check(options: argparse.Namespace, _command: tuple[str, ...], _child: Sequence[str]) -> int:
    suite, source = read_suite(find_suite(options.suite), _changes(options))
    known = _known(suite)
    print("\n".join(_overview(suite, check(suite, source, known), known)))
    return _ALL


def _overview(suite: Suite, settings: Sequence[Setting], known: Known) -> list[str]:
    lines = [f"{suite.name}: {suite.title or suite.name}", f"{len(settings)} points:"]
    lines += [f"  {setting.id}  {describe(setting)}" for setting in settings]
    if suite.target == INPROC:
        missing = dict.fromkeys(
            one.model for one in settings if one.model in CATALOG and one.model not in known.repository
        )
        if missing:
            size = sum(CATALOG[name].bytes for name in missing) / 1e6
            lines.append(f"to be built first in {suite.repository}, {size:.0f} MB: {', '.join(missing)}")
        hopeless = list(unsupported(settings, known))
        lines += [f"will fail as unsupported: {describe(setting)}: {reason}" for setting, reason in hopeless]
    most = suite.budget.warm_up_max_s + suite.budget.max_s
    lines.append(f"warm-up and timed part of a point take at most {most:g} s, of an inference's length more")
    return lines


def _list(_options: argparse.Namespace, _command: tuple[str, ...], _child: Sequence[str]) -> int:
    for name, path in ready_suites().items():
        suite, source = read_suite(path)
        source.check()
        asked = dict.fromkeys(str(question) for matrix in suite.matrix for question in axis(matrix, "questions"))
        print(f"{name:<18} {suite.title}")
        print(f"{'':<18} {', '.join(asked)}; {path}")
    return _ALL


def _schema(_options: argparse.Namespace, _command: tuple[str, ...], _child: Sequence[str]) -> int:
    print(suite_schema_text(), end="")
    return _ALL


def _changes(options: argparse.Namespace) -> list[Change]:
    changes = parse_set(options.set)
    return [*changes, Change("target", (options.target,), f"--target {options.target}")] if options.target else changes


def _known(suite: Suite) -> Known:
    models = [str(name) for matrix in suite.matrix for name in axis(matrix, "models")]
    engines = [str(name) for matrix in suite.matrix for name in axis(matrix, "engines")]
    return look(models, engines, Path(suite.repository), len(environment().gpus))


def _api_key(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        return path.read_text("utf-8").strip()
    except (OSError, ValueError) as exc:
        raise SuiteError(f"cannot read the key file {path} ({exc}): name a file that holds the key") from exc


if __name__ == "__main__":
    sys.exit(main())
