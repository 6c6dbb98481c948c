"""What a search found, in words that claim no more than it can stand behind. Pure functions."""

from dataclasses import dataclass

from dlclient.search_result import SearchResult

from dlreport.quantity import significant
from dlreport.search.view import SearchView


@dataclass(frozen=True, slots=True)
class Banner:
    """How good the answer is. `tone`: as the page's banners are called: valid, warning or invalid."""

    tone: str
    headline: str
    text: str


_UNSURE = Banner(
    "warning",
    "Found, but confirmed without 99 % confidence.",
    "In a run of its own the figures were within the bounds, by too little to be sure of them.",
)
_BANNERS = {
    "found": Banner("valid", "Found and confirmed.", "A run of its own at this rate met every condition."),
    "always-met": Banner(
        "warning",
        "The limit of the search was reached.",
        "The rate is the highest that was allowed, not the highest that the server can do: raise the limit to find that.",
    ),
    "never-met": Banner(
        "warning",
        "Never met.",
        "No rate down to the lowest that was allowed meets the objective: loosen it, or lower the limit.",
    ),
    "not-confirmed": Banner(
        "invalid",
        "Not confirmed: do not quote a rate.",
        "What the search led to did not stand up in runs of its own: the server is not the same from run to run.",
    ),
    "gave-up": Banner(
        "invalid",
        "Ended early: no confirmed answer.",
        "The search was stopped, or had used up its runs, before it was done. No rate was confirmed in a run of its own.",
    ),
    "invalid": Banner(
        "invalid",
        "Invalid: do not quote a rate.",
        "One of the runs could not be trusted, for a reason that is not the server's load; see its folder.",
    ),
}


def banner(result: SearchResult) -> Banner:
    """Whether the answer can be quoted, and as what."""
    if result.found == "found" and any(objective.outcome != "met" for objective in result.objectives):
        return _UNSURE
    return _BANNERS[result.found]


def answer(view: SearchView) -> str:
    """The search's question answered in one sentence: how fast is fast enough?"""
    result, objective = view.result, view.objective
    rate = "" if result.rate_per_s is None else per_second(result.rate_per_s)
    match result.found:
        case "found":
            return f"{rate} is the highest rate that meets {objective}."
        case "always-met":
            return f"{objective} is met up to {rate}, the limit of the search."
        case "never-met":
            lowest = "" if result.upper_per_s is None else f", {per_second(result.upper_per_s)}"
            return f"{objective} is missed even at the lowest rate{lowest}."
        case "gave-up":
            known = [f"met at {rate}"] if rate else []
            known += [f"missed at {per_second(result.upper_per_s)}"] if result.upper_per_s is not None else []
            far = f"{objective} is {' and '.join(known)}" if known else f"Nothing is known of {objective}"
            return f"{far}; the search ended before it was done."
        case _:
            return f"No rate can be named for {objective}."


def per_second(rate: float) -> str:
    """A rate with its unit."""
    return f"{significant(rate, 4)} requests/s"


def stamps(view: SearchView) -> tuple[str, ...]:
    """Words across the picture of a search whose answer is none to quote."""
    found = view.result.found
    said = {
        "SIMULATED": view.simulated,
        "INVALID": found == "invalid",
        "NOT CONFIRMED": found in {"not-confirmed", "gave-up"},
    }
    return tuple(word for word, is_so in said.items() if is_so)
