"""Settings that people write by hand: a table of keys and values -> a checked struct, or a sentence that helps."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

import msgspec

from dlmodels.errors import ModelError, SettingError

Settings = TypeVar("Settings", bound=msgspec.Struct)


def parse_settings(
    values: Mapping[str, object], kind: type[Settings], what: str, error: type[ModelError] = SettingError
) -> Settings:
    """`values` as a `kind`, nothing coerced. A bad key or value raises `error`, whose message begins with `what`."""
    for key in values:
        check_known(key, kind.__struct_fields__, f"{what} has a setting", error)
    try:
        return msgspec.convert(dict(values), kind)
    except msgspec.ValidationError as exc:
        raise error(f"{what}: {_with_key(str(exc))}") from exc


def check_known(key: str, known: Iterable[str], what: str, error: type[ModelError] = SettingError) -> None:
    """Raise `error` unless `key` is one of `known`, naming the nearest and all of them."""
    names = list(known)
    if key in names:
        return
    close = difflib.get_close_matches(key, names, n=1)
    guess = f" Did you mean {close[0]!r}?" if close else ""
    raise error(f"{what} {key!r}, which does not exist.{guess} Valid are: {', '.join(names) or 'none'}")


def _with_key(message: str) -> str:
    """msgspec's "Expected `float`, got `str` - at `$.load_s`" with the key in front."""
    text, found, path = message.partition(" - at `$.")
    return f"{path.rstrip('`')}: {text}" if found else message
