"""Sentences under a verdict: wrapped to the width of the tables."""

import textwrap
from collections.abc import Iterable

from dlclient.results import Reason

WIDTH = 120


def wrapped(text: str, indent: str = "") -> str:
    """At most 120 columns; `indent` before every line but the first."""
    return textwrap.fill(text, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def notes(kind: str, reasons: Iterable[Reason]) -> str:
    """A paragraph each: what is wrong, and its cure."""
    return "\n".join(
        wrapped(f"{kind}: {reason.text}. {reason.cure[:1].upper()}{reason.cure[1:]}.", "  ") for reason in reasons
    )
