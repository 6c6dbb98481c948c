"""The key of a server that wants one, from a file: on a command line everybody on the machine could read it."""

from pathlib import Path

from dlclient.errors import ApiKeyError


def read_api_key(path: Path) -> str:
    """The key that a file of `--api-key-file` holds. Raises ApiKeyError."""
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ApiKeyError(f"--api-key-file {path}: cannot be read: {exc}; name a text file with the key in it") from exc
    if not key.isascii() or not key.isprintable() or not key:
        raise ApiKeyError(f"--api-key-file {path}: holds no key; put one line of plain characters into it")
    return key
