"""Where the root of a model lies: a path, a URI of this machine's disk, or elsewhere."""

from __future__ import annotations

import re
from pathlib import Path


def local_folder(root: str) -> Path | None:
    """The folder of a root on local disk (a plain path or file: URI), absolute; None for any other place."""
    # By hand: a parser of URLs ends the path at # and ?, which Hadoop's paths and file systems take as they are.
    if root.startswith("file:"):
        rest = root.removeprefix("file:")
        return Path("/" + rest[2:].partition("/")[2] if rest.startswith("//") else rest).resolve()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", root):
        return None
    return Path(root).expanduser().resolve()
