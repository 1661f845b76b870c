"""Small files on a local disk or on any store Arrow knows: read, listed, looked at, removed; never written."""

from __future__ import annotations

import functools
from dataclasses import dataclass

from pyarrow import fs

from freshet.engine.file_names import plain


@dataclass(frozen=True)
class Stat:
    """Size in bytes and modification time in milliseconds, as the engine notes it (cut, not rounded)."""

    size: int
    modified_ms: int

    @classmethod
    def of(cls, uri: str) -> Stat | None:
        """What is at `uri`; None when there is no file."""
        store, path = _store(uri)
        info = store.get_file_info(path)
        if info.type != fs.FileType.File:
            return None
        return cls(int(info.size), int(info.mtime_ns) // 1_000_000)


class Folder:
    """A folder of small text files."""

    def __init__(self, path: str) -> None:
        self.path = plain(path)
        self._store, self._root = _store(path)

    def has(self, name: str) -> bool:
        """Whether the file exists."""
        return bool(self._store.get_file_info(f"{self._root}/{name}").type == fs.FileType.File)

    def read(self, name: str) -> str:
        """The text of a file."""
        with self._store.open_input_stream(f"{self._root}/{name}") as stream:
            return bytes(stream.read()).decode()

    def names(self, name: str) -> set[str]:
        """Names in a folder; none when it does not exist."""
        found = self._store.get_file_info(fs.FileSelector(f"{self._root}/{name}", allow_not_found=True))
        return {info.base_name for info in found}

    def remove(self, name: str) -> None:
        """Remove a file, and what Hadoop's local file system notes of it beside it."""
        place, _, last = f"{self._root}/{name}".rpartition("/")
        for path in (f"{place}/{last}", f"{place}/.{last}.crc"):
            if self._store.get_file_info(path).type == fs.FileType.File:
                self._store.delete_file(path)

    def numbers(self, name: str) -> list[int]:
        """Names that are numbers, sorted: the entries of one of Spark's logs, without its temporary files."""
        return sorted(int(found) for found in self.names(name) if found.isdecimal())


def _store(uri: str) -> tuple[fs.FileSystem, str]:
    if uri.startswith("file:") or "://" not in uri:
        return fs.LocalFileSystem(), plain(uri).rstrip("/")
    scheme, _, rest = uri.partition("://")
    # Hadoop's s3a is Arrow's s3.
    scheme = "s3" if scheme == "s3a" else scheme
    authority, _, path = plain(f"{scheme}://{rest}").removeprefix(f"{scheme}://").partition("/")
    return _remote(scheme, authority), f"{authority}/{path}".rstrip("/") if scheme in ("s3", "gs") else f"/{path}"


@functools.cache
def _remote(scheme: str, authority: str) -> fs.FileSystem:
    return fs.FileSystem.from_uri(f"{scheme}://{authority}/")[0]
