"""What a call's items stand for: bytes as they came, base64, a file below a data root, or a directory of files."""

import binascii
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import BinaryIO

from dlserve.messages import AS_SENT, Item, ItemKind
from dlserve.worker import files as page_files
from dlserve.worker.failures import InputError

_URI_CHARACTERS = 200
"""As in DeepDetect, a longer uri is cut in messages: it may be a whole image."""


@dataclass(frozen=True, slots=True)
class Source:
    """One image of a call, not read yet: `data` is what the body holds of it; of a file, `path` is the real one."""

    uri: str
    kind: ItemKind
    data: memoryview
    path: str = ""
    shape: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Sources:
    """The images of a call, in order."""

    images: tuple[Source, ...]
    expanded: bool
    """A directory was among the items: there may be more images than items, each with a uri of its own."""


def named(uri: str, problem: object) -> str:
    """A message about one input."""
    return f"{uri[:_URI_CHARACTERS]}: {problem}"


class InputReader:
    """Finds and reads inputs, within limits. Used from many threads."""

    def __init__(
        self, data_roots: Sequence[str], max_images: int, max_file_bytes: int, *, drop_page_cache: bool = False
    ) -> None:
        self._roots = tuple(os.path.realpath(root) for root in data_roots)
        self._max_images = max_images
        self._max_file_bytes = max_file_bytes
        self._drop_page_cache = drop_page_cache

    def sources(self, items: Sequence[Item], body: memoryview) -> Sources:
        """The images that a call's items stand for. Raises InputError naming the item."""
        images: list[Source] = []
        expanded, offset = False, 0
        for item in items:
            data = body[offset : offset + item.size]
            offset += item.size
            if item.kind == "path":
                found = self._resolve(item.uri, data)
                expanded = expanded or found is None
                images += [found] if found else self._directory(item.uri, data)
            else:
                images.append(Source(item.uri, item.kind, data, shape=item.shape))
            if len(images) > self._max_images:
                raise InputError(f"more than {self._max_images} images in one call: send fewer, or raise --max-images")
        return Sources(tuple(images), expanded)

    def read(self, source: Source) -> bytes | memoryview:
        """An image's bytes. Raises InputError naming it."""
        if source.kind in AS_SENT:
            return source.data
        if source.kind == "path":
            return self._read_file(source.uri, source.path)
        try:
            return binascii.a2b_base64(source.data, strict_mode=True)
        except ValueError as exc:
            raise InputError(
                named(
                    source.uri,
                    f"not base64 ({exc}): use the standard alphabet with padding, no line ends, no data: prefix",
                )
            ) from exc

    def forget(self, sources: Iterable[Source]) -> None:
        """Make the page cache forget the files among these, where the server starts from disk in earnest.

        Raises PageCacheError, or InputError naming the file.
        """
        if not self._drop_page_cache:
            return
        for source in sources:
            if source.kind == "path":
                with self._opened(source.uri, source.path) as file:
                    page_files.forget(file.fileno(), named(source.uri, "the image"))

    def _resolve(self, uri: str, data: memoryview) -> Source | None:
        """A path item's file, below a data root; None if it is a directory."""
        real = self._allowed(uri, self._path(uri, data))
        try:
            mode = os.stat(real).st_mode  # noqa: PTH116  the path is a plain string
        except OSError as exc:
            raise InputError(named(uri, f"cannot be read: {exc.strerror}")) from exc
        if stat.S_ISDIR(mode):
            return None
        return Source(uri, "path", data, real)

    def _path(self, uri: str, data: memoryview) -> str:
        try:
            path = str(data, "utf-8")
        except UnicodeDecodeError as exc:
            raise InputError(named(uri, "a path must be UTF-8")) from exc
        if "\0" in path or not path.startswith("/"):
            raise InputError(named(uri, "must be an absolute path on the server"))
        return path

    def _allowed(self, uri: str, path: str) -> str:
        """The real path, all links followed, if it lies below a data root. Says the same of what does not exist."""
        if not self._roots:
            raise InputError(
                named(uri, "paths are not served: start dlserve with --data-root DIR, or send the image itself")
            )
        real = os.path.realpath(path)
        if not any(real == root or real.startswith(root.rstrip("/") + "/") for root in self._roots):
            raise InputError(
                named(uri, "not below an allowed folder: move it there, or start dlserve with another --data-root")
            )
        return real

    def _directory(self, uri: str, data: memoryview) -> list[Source]:
        """A directory's images, sorted by name; sub-directories, one level of them, are DeepDetect's class folders."""
        path = str(data, "utf-8")
        names = sorted(islice(self._names(uri, path), self._max_images + 1))
        if not names:
            raise InputError(named(uri, "an empty directory: put images in it, or name another"))
        paths = [f"{path.rstrip('/')}/{name}" for name in names]
        # As in DeepDetect, one image alone goes by its directory's name.
        uris = [_printable(f"{uri.rstrip('/')}/{name}") for name in names] if len(names) > 1 else [uri]
        return [Source(uri, "path", data, self._allowed(uri, path)) for uri, path in zip(uris, paths, strict=True)]

    def _names(self, uri: str, path: str, below: str = "") -> Iterator[str]:
        """Names of files in it, relative to it; hidden ones left out."""
        try:
            with os.scandir(self._allowed(uri, f"{path}/{below}")) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue
                    if not entry.is_dir():
                        yield below + entry.name
                    elif below:
                        raise InputError(
                            named(f"{uri}/{below}{entry.name}", "folders may be nested one level deep, no more")
                        )
                    else:
                        yield from self._names(uri, path, f"{entry.name}/")
        except OSError as exc:
            raise InputError(named(uri, f"cannot be listed: {exc.strerror}")) from exc

    def _read_file(self, uri: str, path: str) -> bytes:
        with self._opened(uri, path) as file:
            return file.read(self._max_file_bytes)

    @contextmanager
    def _opened(self, uri: str, path: str) -> Iterator[BinaryIO]:
        """A plain file of a size that is read."""
        try:
            # No link is followed any more, and no pipe is waited for: the path was resolved before.
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as opened:
                facts = os.fstat(descriptor)
                if not stat.S_ISREG(facts.st_mode):
                    raise InputError(named(uri, "not a file"))
                if facts.st_size > self._max_file_bytes:
                    raise InputError(
                        named(uri, f"{facts.st_size} bytes, at most {self._max_file_bytes} are read: see --max-body-mb")
                    )
                yield opened
        except OSError as exc:
            raise InputError(named(uri, f"cannot be read: {exc.strerror}")) from exc


def _printable(name: str) -> str:
    """A file name as text: bytes of it that are no UTF-8 become the replacement character."""
    return os.fsencode(name).decode("utf-8", "replace")
