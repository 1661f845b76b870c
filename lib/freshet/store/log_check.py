"""Whether the log of a table is whole. On local disk only, where a file can be lost or cut; object stores answer for theirs.

    N.json  an entry, one per version    N.crc  what Delta knows of version N    N.checkpoint*.parquet  entries up to N, in one

A reader takes the newest entry it finds for the newest there is: with that one lost the table is shorter, and nobody is told. A
checkpoint that is cut ends a reader although every entry is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from freshet.errors import StateDamaged
from freshet.roots import local_folder
from freshet.schema import TABLES
from freshet.store.tables import Tables

_FILE = re.compile(r"(\d{20})\.(json|crc|checkpoint(?:\.[^.]+)*\.parquet)")


def check_logs(tables: Tables, names: Iterable[str] = TABLES) -> None:
    """Raise StateDamaged, naming the table and the entry, where something tells of a version whose entry is gone."""
    for name in names:
        folder = _log(tables, name)
        found = _numbered(folder) if folder is not None and folder.is_dir() else []
        entries = {number for number, kind, _ in found if kind == "json"}
        last = max(found, default=(-1, "", ""))
        if last[0] > max(entries, default=-1):
            entry = f"{last[0]:020d}.json"
            if folder is not None and (folder / entry).exists():
                continue  # it came while the folder was being listed
            raise StateDamaged(
                f"Entry {entry} of the log of table {name} is gone: {last[2]} beside it tells of it.",
                remedy=f"Restore {folder}/{entry} from a copy. Without it the table lacks what was committed last.",
                table=name, entry=last[0],
            )


def cut_checkpoints(tables: Tables, name: str) -> str:
    """What to do where checkpoints of the log cannot be opened and the entries they stand for are all there; else nothing."""
    folder = _log(tables, name)
    found = _numbered(folder) if folder is not None and folder.is_dir() else []
    entries = {number for number, kind, _ in found if kind == "json"}
    checkpoints = [(number, file) for number, kind, file in found if kind.startswith("checkpoint")]
    cut = [(number, file) for number, file in checkpoints if folder is not None and not _opens(folder / file)]
    begins = max({number for number, _ in checkpoints} - {number for number, _ in cut}, default=-1)
    cut = [(number, file) for number, file in cut if number > begins]  # nobody opens one that is older than a sound one
    if not cut:
        return ""
    names = ", ".join(file for _, file in cut)
    if not set(range(begins + 1, max(entries, default=-1) + 1)) <= entries:
        return f"Restore {names} in {folder} from a copy: the entries it stands for are not all there."
    return f"Move {names} and _last_checkpoint out of {folder}: the entries there say all that they say."


def _log(tables: Tables, name: str) -> Path | None:
    folder = local_folder(tables.path(name))
    return None if folder is None else folder / "_delta_log"


def _numbered(folder: Path) -> list[tuple[int, str, str]]:
    """(version, what it is, name) of the files of a log, by version."""
    found = (_FILE.fullmatch(path.name) for path in folder.iterdir())
    return sorted((int(match[1]), match[2], match[0]) for match in found if match)


def _opens(path: Path) -> bool:
    try:
        pq.ParquetFile(path).close()
    except (OSError, pa.ArrowException):
        return False
    return True
