"""Names of files: the spellings in which the engine, its checkpoint and people write one and the same path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

import xxhash

from freshet.engine.hashing import SEED

# What Java's URI leaves as it is in a path; other ASCII is written %XX, letters of other scripts stay.
_ESCAPED = re.compile(r"[^A-Za-z0-9_\-!.~'()*:@&=+$,;/\u0080-\U0010ffff]")


def by_key(uris: Iterable[str]) -> dict[int, str]:
    """xxhash64 of a file's name as records carry it -> its plain path, for every spelling the name can have."""
    return {key(spelling): plain(uri) for uri in uris for spelling in spellings(uri)}


def key(name: str) -> int:
    """Spark's xxhash64 of a text, signed."""
    value = xxhash.xxh64_intdigest(name.encode(), seed=SEED)
    return value - (1 << 64) if value >> 63 else value


def spellings(uri: str) -> list[str]:
    """`file:///a%20b` in the checkpoint is `file:/a%20b` in a record; other schemes are written alike in both."""
    scheme, separator, path = uri.partition(":")
    if not separator or "/" in scheme:  # a plain path
        return [f"file:{encoded(uri)}"]
    return [uri, f"file:/{path.lstrip('/')}"] if scheme == "file" else [uri]


def plain(uri: str) -> str:
    """The path as a person writes it: file:///a%20b/c.json -> /a b/c.json; other schemes keep theirs."""
    if uri.startswith("file:"):
        return "/" + unquote(uri.removeprefix("file:")).lstrip("/")
    return unquote(uri) if ":" in uri.partition("/")[0] else uri


def encoded(path: str) -> str:
    """A plain path as it stands in a URI of Java: `/a b/50%.json` -> `/a%20b/50%25.json`."""
    return _ESCAPED.sub(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), path)
