"""What must fit before a model is written to: the source to the checkpoint, the columns of its tables to this code."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from freshet import __version__
from freshet.engine import checkpoint
from freshet.engine.file_names import plain
from freshet.errors import CheckpointRefused, EngineRefused
from freshet.schema import GROWN, SNAPSHOTS, TABLES
from freshet.settings import Settings
from freshet.store.files import all_rows
from freshet.store.snapshots import History, Snapshot
from freshet.store.tables import Tables


def check_source(history: History, tables: Tables, settings: Settings) -> None:
    """Refuse another source on the checkpoint the model learned from, adopted or not: files of another folder, or fewer topics.
    Spark would end at what it had planned of the first."""
    last = history.last_streamed()
    if last is None or checkpoint.inspect(settings.store.checkpoint_path).id != last.checkpoint_id:
        return
    now, what = settings.source, ""
    if now.format == "kafka" and now.kafka.on_data_loss == "stop":
        before = Settings.from_json(History.settings_of(tables, last.version)).source.kafka
        left = sorted(set(before.topics) - set(now.kafka.topics))
        what = f"source.kafka.topics lacks {', '.join(left)}, which the model learned from" if left else ""
    elif now.format not in ("delta", "kafka"):  # a table has an id of its own, which Spark compares
        other = _elsewhere(_last_files(tables, last), str(now.path))
        what = f"source.path is {now.path}, and the model learned from {other}" if other else ""
    if what:
        raise CheckpointRefused(
            f"The checkpoint {settings.store.checkpoint_path} is of another source: {what}.",
            remedy="Set it back; or go on from the new source with a new store.checkpoint and --adopt-checkpoint.",
            reason="source", path=settings.store.checkpoint_path, found=now.path,
        )


def _last_files(tables: Tables, last: Snapshot) -> list[str]:
    """The files of the last micro-batch, where the engine found them."""
    rows = all_rows(tables, SNAPSHOTS.name, ("commit_id", "sources"), ("version", "=", last.version)).to_pylist()
    read = [json.loads(text) for row in rows if row["commit_id"] == last.commit_id for text in row["sources"] or ()]
    return [one["path"] for one in read if "path" in one]


def _elsewhere(files: Sequence[str], path: str) -> str:
    """One of the files that does not lie at `path`, "" without one; what a pattern may match is the pattern's to say."""
    place = plain(path)
    if re.search(r"[*?\[{]", place):
        return ""
    if ":" not in place.partition("/")[0]:  # a name on this machine, as the engine spells it
        place = os.path.normpath(Path(place).absolute())
    place = place.rstrip("/")
    return next((file for file in files if file != place and not file.startswith(f"{place}/")), "")


def check_known(tables: Tables) -> None:
    """Refuse a model that a newer Freshet has written to, before anything is written: its rows have what this one does not know."""
    for name in GROWN:
        unknown = [column for column in tables.columns(name) if column not in TABLES[name].names]
        if unknown:
            versions = all_rows(tables, SNAPSHOTS.name, ("code_version",)).column("code_version").unique().to_pylist()
            raise EngineRefused(
                f"Table {name} has columns that Freshet {__version__} does not know ({', '.join(unknown)}); it was written by "
                f"Freshet {', '.join(sorted(set(versions) - {__version__})) or 'of another build'}.",
                remedy="Install that one, or a newer one.", table=name, unknown=unknown,
            )
