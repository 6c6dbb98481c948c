"""What a comparison found, in words that claim no more than it can stand behind. Pure functions."""

from dlreport.balance.view import BalanceView, resident
from dlreport.quantity import milliseconds, ratio


def answer(view: BalanceView) -> str:
    """The comparison's question answered in one sentence: does `predicted` serve best?"""
    contests = view.contests
    if not contests:
        return "The policies cannot be compared: predicted and another one need a p99 in the same scenario."
    lost = [one for one in contests if one.outcome == "worse"]
    if lost:
        return (
            f"predicted has a worse p99 than {lost[0].best.where.policy} in {len(lost)} of {len(contests)} scenarios."
        )
    return f"In none of {len(contests)} scenarios is the p99 of predicted worse than that of another policy beyond the intervals."


def lead(view: BalanceView) -> str:
    """Where it matters most."""
    contests = [one for one in view.contests if one.scenario.source == "model"] or list(view.contests)
    if not contests:
        return ""
    widest, closest = (pick(contests, key=lambda one: one.ratio) for pick in (max, min))
    return (
        f"The best other policy has {ratio(closest.ratio)} its p99 where they are closest ({closest.scenario.text}: "
        f"{closest.best.where.policy}), {ratio(widest.ratio)} where they are farthest apart ({widest.scenario.text}: "
        f"{widest.best.where.policy})."
    )


def agreement(view: BalanceView) -> str:
    """How well model and processes agree, in a sentence; "" where nothing ran in processes."""
    if not view.judged:
        return ""
    within = sum(cell.agreement.within for cell in view.judged if cell.agreement)
    return f"Model and processes agree within 10 % in mean, p50 and p99 in {within} of {len(view.judged)} cells."


def spoken(view: BalanceView, residency: str, workers: int) -> str:
    """The p99 of each policy at the highest load, for those who do not see the picture."""
    told = []
    for scenario, cells in view.scenarios.items():
        if (scenario.source, scenario.residency, scenario.workers) == ("model", residency, workers):
            figures = [
                f"{cell.where.policy} {milliseconds(cell.figures.latency_s.p99)} ms"
                for cell in cells
                if cell.figures and cell.figures.latency_s.p99 is not None
            ]
            told.append(f"{scenario.mix} at {scenario.load:.0%}: {', '.join(figures)}")
    return f"p99, {resident(residency)}. {'; '.join(told)}."


def stamps(view: BalanceView) -> tuple[str, ...]:
    """Words across every picture."""
    return ("SIMULATED",) if view.balance.finished else ("SIMULATED", "NOT FINISHED")
