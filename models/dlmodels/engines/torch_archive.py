"""The zip archives that torch writes (TorchScript, torch.export): where each record lies. Nothing is ever unpickled."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from dlmodels.engines.file_stamp import Stamp, stamp
from dlmodels.errors import LoadError

_LOCAL_HEADER_BYTES = 30
_LOCAL_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True, slots=True)
class Record:
    """One member of the archive, stored as it is: its bytes in the file."""

    begin: int
    end: int
    crc32: int

    @property
    def bytes(self) -> int:
        """Of its content."""
        return self.end - self.begin


@dataclass(frozen=True, slots=True)
class Archive:
    """A whole archive, whose checksums are right. Names are without the folder that all members lie in."""

    path: Path
    stamp: Stamp
    folder: str
    names: frozenset[str]
    records: Mapping[str, Record]
    """The members that are not compressed."""

    def read(self, name: str) -> bytes:
        """One member's content. Raises LoadError if there is none of that name."""
        if name not in self.names:
            raise LoadError(f"{self.path} has no {name}: it is not whole; save the network again")
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(f"{self.folder}/{name}")


def read_archive(path: Path, kind: str, cure: str) -> Archive:
    """Read and check the archive, every byte of it. Raises LoadError that calls it no `kind`, and ends with `cure`."""
    found = stamp(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            damaged = archive.testzip()
            records = {member.filename: _record(path, member) for member in members if _is_stored(member)}
    except OSError as exc:
        raise LoadError(f"the weights {path} cannot be read ({exc.strerror}): put the file back") from exc
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as exc:
        raise LoadError(f"{path} is no {kind} file: {cure}") from exc
    if damaged is not None:
        raise LoadError(f"{path} is damaged in {damaged}: copy it again, or save the network again")
    folders = {name.partition("/")[0] for name in archive.namelist()}
    if len(folders) != 1 or len({member.filename for member in members}) != len(members):
        raise LoadError(f"{path} is no {kind} file: {cure}")
    folder = folders.pop()
    inner = len(folder) + 1
    return Archive(
        path,
        found,
        folder,
        frozenset(member.filename[inner:] for member in members),
        MappingProxyType({name[inner:]: record for name, record in records.items()}),
    )


def _is_stored(member: zipfile.ZipInfo) -> bool:
    return member.compress_type == zipfile.ZIP_STORED


def _record(path: Path, member: zipfile.ZipInfo) -> Record:
    """The directory at the archive's end says where a member's header begins; only that tells where its bytes do."""
    with path.open("rb") as file:
        file.seek(member.header_offset)
        header = file.read(_LOCAL_HEADER_BYTES)
    if len(header) != _LOCAL_HEADER_BYTES or not header.startswith(_LOCAL_MAGIC):
        raise zipfile.BadZipFile(f"{member.filename} is not where the directory says")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    begin = member.header_offset + _LOCAL_HEADER_BYTES + lengths
    return Record(begin, begin + member.file_size, member.CRC)
