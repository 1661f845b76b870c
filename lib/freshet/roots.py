"""Where the root of a model lies: a path, a URI of this machine's disk, or elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path

from freshet.errors import FreshetError
from freshet.schema import SNAPSHOTS


def local_folder(root: str) -> Path | None:
    """The folder of a root on local disk (a plain path or file: URI), absolute; None for any other place."""
    # By hand: a parser of URLs ends the path at # and ?, which Hadoop's paths and file systems take as they are.
    if root.startswith("file:"):
        rest = root.removeprefix("file:")
        return Path("/" + rest[2:].partition("/")[2] if rest.startswith("//") else rest).resolve()
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", root):
        return None
    return Path(root).expanduser().resolve()


def check_root(root: str, makes: bool) -> None:
    """What can be said of a root before Spark starts; FreshetError where it holds no model, or `makes` one and cannot."""
    folder = local_folder(root)
    if folder is None:
        return
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if not there.is_dir():
        raise cannot_hold(root, f"{there} is no folder")
    if makes and not os.access(there, os.W_OK | os.X_OK):
        raise cannot_hold(root, f"{there} may not be written to")
    if not makes and not (folder / SNAPSHOTS.name).is_dir():
        raise no_model(root)


def cannot_hold(root: str, why: str) -> FreshetError:
    """The refusal of a root under which nothing can be written."""
    remedy = "Name another folder: --set store.root=..."
    return FreshetError(f"store.root {root} can hold no model: {why}.", remedy=remedy, root=root)


def no_model(root: str) -> FreshetError:
    """The refusal of a root without a model."""
    remedy = "Start one with `freshet train`, or name its folder with --set store.root=..."
    return FreshetError(f"There is no model under {root}.", remedy=remedy, root=root)
