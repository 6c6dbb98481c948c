"""`dlreport compare A B`: what differs between two results, and a gate for regressions."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dlreport.compare.comparison import Comparison
from dlreport.compare.condition import Condition, Judged, judge, parse_condition
from dlreport.compare.report import as_text, compare, untrusted, write_comparison
from dlreport.errors import ReportError

FAILED = 3
"""Exit status where a condition is met."""

_EPILOG = """\
examples:
  dlreport compare results/before results/after
  dlreport compare results/before results/after -o results/difference
  dlreport compare results/before results/after --fail-on "p99>+5%" --fail-on "images/s<-5%"

A and B are two streams or two benches. Compared are mean, p50, p90 and p99 of the latency and images/s, of each phase and
model (stream) or of each point (bench: points of the same setting; what is only in one of them is listed). Each change, B
over A, has a 95 % interval, computed from the raw samples and allowing for requests that were slow together; where it
includes no change, that is what is said: no difference. About one figure in 20 shows a difference by chance alone, and
what differs from run to run for other reasons (another day, another machine) is in no interval: measure twice.

conditions (--fail-on): FIGURE>+LIMIT or FIGURE<-LIMIT, in % of A's figure or, of a latency, in ms, us or s: "p99>+5%",
"mean>+2ms", "images/s<-5%". A condition is met at a point where the measured change is beyond the limit and the
difference is no noise (its interval does not include no change). It need not be that the whole interval is beyond the
limit: a true change that equals the limit fails in half of all runs, one of a much smaller size hardly ever.

exit status: 0 compared, and no condition met; 1 not compared, or a condition cannot be judged (an invalid or unfinished
result, too few samples at every point), and why is said; 2 the command line was wrong; 3 a condition is met, or, with
--fail-on, a point of A failed in B.
"""


def main(arguments: Sequence[str]) -> int:
    """Entry point; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        comparison = compare(options.a, options.b)
        judged = judge(comparison, options.fail_on, options.at)
        page = write_comparison(comparison, judged, options.output) if options.output else None
    except ReportError as exc:
        print(f"dlreport: {exc}", file=sys.stderr)
        return 1
    print(as_text(comparison, judged), end="")
    if page is not None:
        print(page)
    return _status(comparison, judged)


def _status(comparison: Comparison, judged: Sequence[Judged]) -> int:
    if not judged:
        return 0
    lost = [one for one in comparison.lone if one.letter == "A" and one.failed]
    if lost:
        print(f"dlreport: {lost[0].name} has no figures in B any more: {lost[0].why}", file=sys.stderr)
    if lost or any(one.met_at for one in judged):
        return FAILED
    for reason in untrusted(comparison):
        print(f"dlreport: the gate cannot pass: {reason.text}; {reason.cure}", file=sys.stderr)
    untold = [one.condition.text for one in judged if not one.judged]
    if untold:
        print(
            f"dlreport: no point can be judged by {', '.join(untold)}: measure more requests (p99 needs 662 answers), or compare"
            " results that have points in common",
            file=sys.stderr,
        )
    return 1 if untold or untrusted(comparison) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dlreport compare",
        description="What differs between two results, and whether it is more than noise.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", type=Path, help="a result folder: what B is compared with")
    parser.add_argument("b", metavar="B", type=Path, help="a result folder of the same kind")
    parser.add_argument(
        "--fail-on", metavar="CONDITION", type=_condition, action="append", default=[], help='exit with 3 where it is met: "p99>+5%%"; may be repeated'
    )  # fmt: skip
    parser.add_argument(
        "--at", metavar="TEXT", action="append", default=[], help='judge only points whose name holds this: "all models, warm"; may be repeated'
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, help="also write a page, pictures and tables here")
    return parser


def _condition(text: str) -> Condition:
    try:
        return parse_condition(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(str(exc)) from exc
