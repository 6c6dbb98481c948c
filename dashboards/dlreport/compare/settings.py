"""A point's setting in few words: only what tells it from the others. Pure functions."""

from collections.abc import Sequence

from dlclient.bench_result import Setting

_WORDS = {
    "engine": "{}",
    "device": "{}",
    "question": "{}",
    "batch_size": "batch {}",
    "in_flight": "{} in flight",
    "threads": "{} threads",
    "affinity": "CPUs {}",
    "precision": "{}",
    "target": "{}",
    "input": "input {}",
}
_ALWAYS = {"batch_size"}


def varying(settings: Sequence[Setting]) -> frozenset[str]:
    """The fields, and options, that differ between these settings."""
    fields = {field for field in _WORDS if len({getattr(setting, field) for setting in settings}) > 1}
    options = {option for setting in settings for option in setting.options}
    fields |= {
        f"option {option}" for option in options if len({repr(setting.options.get(option)) for setting in settings}) > 1
    }
    return frozenset(fields | _ALWAYS)


def detail(setting: Setting, told: frozenset[str]) -> str:
    """Those fields of a setting, in one order."""
    parts = [
        words.format(getattr(setting, field))
        for field, words in _WORDS.items()
        if field in told and getattr(setting, field) not in (None, "")
    ]
    parts += [f"{option} {value}" for option, value in setting.options.items() if f"option {option}" in told]
    return ", ".join(parts)
