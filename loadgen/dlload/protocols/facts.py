"""Values out of an answer that says anything: what is not of the expected kind means something else, and is None."""

import msgspec


def number(value: object) -> float | None:
    """A number, as a float."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def whole(value: object) -> int | None:
    """A whole number."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def text(value: object) -> str | None:
    """A string."""
    return value if isinstance(value, str) else None


def stages(value: object) -> dict[str, float] | None:
    """Stage -> seconds, from an object or from a string that holds one (where an API allows no objects)."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except msgspec.DecodeError:
            return None
    if not isinstance(value, dict):
        return None
    found = {str(stage): number(seconds) for stage, seconds in value.items()}
    known = {stage: seconds for stage, seconds in found.items() if seconds is not None}
    return known if len(known) == len(found) else None
