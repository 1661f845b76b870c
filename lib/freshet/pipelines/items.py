"""The table `items` taken into the model: a version of kind `items` whenever it says something new of an item."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import functions as F

from freshet.attributes import describe
from freshet.engine.features import item_attributes
from freshet.errors import StateDamaged
from freshet.head import Head
from freshet.intake import note_ids
from freshet.kernels.digest import as_hex
from freshet.models.contract import ATTRIBUTE, ITEM
from freshet.pipelines.learned_events import natural_ids
from freshet.pipelines.rows import from_arrow, to_arrow
from freshet.pipelines.starting import Opened
from freshet.pipelines.text_keys import checks, hashed
from freshet.schema import IDS, ITEM_ATTRIBUTES, ITEMS, PARAMETERS, POPULARITY
from freshet.store.files import count_of, rows_of
from freshet.store.snapshots import ITEMS as TAKEN
from freshet.store.snapshots import Snapshot
from freshet.store.tables import Tables


class SideInformation:
    """Looks at `items` when it has moved, between micro-batches of an opened model."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._version = -1

    def take(self) -> Snapshot | None:
        """Commit what `items` says that the model does not know; None where that is nothing."""
        opened, features = self._opened, self._opened.settings.model.features
        if not features.items:
            return None
        version = opened.tables.version(ITEMS.name)
        if version == self._version:
            return None
        self._version = version
        table = _items(opened.tables, version)
        keys, checked = (table.column(name).to_numpy() for name in ("key", "check"))
        attributes, texts, text_keys = item_attributes(table, features)
        head = opened.head
        kept = np.flatnonzero(~_collides(head, keys, checked))
        changes, digest = describe(head, keys[kept], attributes[kept])
        if not changes:
            return None
        new = kept[head.ids[ITEM].lookup(keys[kept]) < 0]
        new_texts = np.flatnonzero(head.ids[ATTRIBUTE].lookup(text_keys) < 0)
        ids = pa.concat_tables([
            _id_rows(ITEM, keys[new], table.column("item_id").take(pa.array(new))),
            _id_rows(ATTRIBUTE, text_keys[new_texts], texts.take(pa.array(new_texts))),
        ])
        rows = {name: one for name, (one, _) in changes.items()}
        fields = {
            "kind": TAKEN, "digest": as_hex(digest), "row_counts": head.rows_after(rows), "metrics": [],
            "reason": f"version {version} of the table items: {len(keys)} items, {len(keys) - len(kept)} left out (id collisions)",
        }
        parts = {PARAMETERS.name: to_arrow(head.blocks, rows), IDS.name: ids}
        snapshot = opened.writer.commit(opened.writer.begin(), parts, fields)
        head.apply(changes, digest)
        note_ids(head, ITEM, keys[new], checked[new])
        note_ids(head, ATTRIBUTE, text_keys[new_texts], np.zeros(len(new_texts), np.int64))
        return snapshot


def check_items(tables: Tables, commits: Sequence[Snapshot]) -> None:
    """Raise StateDamaged where rows of versions of kind `items` are gone: what was said of items stands nowhere else."""
    mine = [row for row in commits if row.kind == TAKEN]
    if count_of(tables, PARAMETERS.name, mine) != sum(row.appended_rows.get(PARAMETERS.name, 0) for row in mine):
        versions = ", ".join(str(row.version) for row in mine[:5])
        raise StateDamaged(
            f"What was said of items in version {versions}{'...' if len(mine) > 5 else ''} is not there any more.",
            remedy="Maintenance gave it up (store.log_retention), or a file is lost; begin at a newer version.",
            table=PARAMETERS.name, version=mine[0].version,
        )


def retake(tables: Tables, head: Head, snapshot: Snapshot) -> None:
    """Take once more what a version of kind `items` took. Raises StateDamaged where its rows are gone."""
    check_items(tables, [snapshot])
    table = rows_of(tables, PARAMETERS.name, [snapshot], PARAMETERS.names)
    for name in table.column("block").unique().to_pylist():
        mine = table.filter(pc.equal(table.column("block"), name)).combine_chunks()
        for rows in from_arrow(head.blocks[name], mine):
            head.put(name, rows)


def take_again(opened: Opened, snapshot: Snapshot) -> Snapshot | None:
    """Commit on the head once more what a version of kind `items` on another branch took; None where the head knows it all.
    Raises StateDamaged where its rows are gone."""
    head, tables = opened.head, opened.tables
    check_items(tables, [snapshot])
    items, attributes = _told(head, rows_of(tables, PARAMETERS.name, [snapshot], PARAMETERS.names).combine_chunks())
    changes, digest = describe(head, items, attributes)
    if not changes:
        return None
    # Ids that the other branch had met before, by events that may be no part of this one.
    ids = natural_ids(tables, opened.history, snapshot.version, (ITEM, ATTRIBUTE)).combine_chunks()
    ids = ids.append_column("check", pa.array(checks(ids.column("natural_id"))))
    keys, block = ids.column("key").to_numpy(), ids.column("block").to_numpy(zero_copy_only=False)
    new = np.isin(keys, np.concatenate([items, attributes.ravel()]))
    for space in (ITEM, ATTRIBUTE):
        new &= (block != space) | (head.ids[space].lookup(keys) < 0)
    rows = {name: one for name, (one, _) in changes.items()}
    ids = ids.filter(pa.array(new))
    fields: dict[str, object] = {
        "kind": TAKEN, "digest": as_hex(digest), "row_counts": head.rows_after(rows), "metrics": [], "reason": snapshot.reason,
    }
    row = opened.writer.commit(
        opened.writer.begin(), {PARAMETERS.name: to_arrow(head.blocks, rows), IDS.name: ids.drop_columns("check")}, fields)
    head.apply(changes, digest)
    for space in (ITEM, ATTRIBUTE):
        mine = new & (block == space)
        note_ids(head, space, keys[mine], ids.column("check").to_numpy()[(block == space)[new]])
    return row


def _told(head: Head, table: pa.Table) -> tuple[np.ndarray, np.ndarray]:
    """(keys int64[n], attributes int64[n, A]) of the items in the rows of a version of kind `items`: those with attributes, then
    those of which it only says that they are there."""
    block = table.column("block").to_numpy(zero_copy_only=False)
    parts = list(from_arrow(head.blocks[ITEM_ATTRIBUTES], table.filter(pa.array(block == ITEM_ATTRIBUTES)).combine_chunks()))
    empty = np.empty((0, head.blocks[ITEM_ATTRIBUTES].links), np.int64)
    items = np.concatenate([*(rows.keys for rows in parts), np.empty(0, np.int64)])
    bare = np.setdiff1d(table.column("key").to_numpy()[block == POPULARITY], items)
    attributes = np.concatenate([*(rows.links for rows in parts), empty, np.zeros((len(bare), empty.shape[1]), np.int64)])
    return np.concatenate([items, bare]), attributes


def _items(tables: Tables, version: int) -> pa.Table:
    """item_id, its key and check, category, title, attributes; of several rows of an item the one whose text is largest."""
    said = [F.col(name) for name in ("category", "title")]
    frame = tables.read(ITEMS.name).withColumn("said", F.to_json(F.struct(*said, F.map_entries("attributes").alias("more"))))
    newest = frame.groupBy("item_id").agg(F.max_by(F.struct("category", "title", "attributes"), "said").alias("one"))
    columns = [F.col(f"one.{name}").alias(name) for name in ("category", "title", "attributes")]
    found = tables.collect(ITEMS.name, newest.select("item_id", *columns), version)
    ids = found.column("item_id")
    return found.append_column("key", pa.array(hashed(ids))).append_column("check", pa.array(checks(ids))).sort_by("key")


def _collides(head: Head, keys: np.ndarray, checks: np.ndarray) -> np.ndarray:
    """bool[n]: another id has the key, met before or in the same table (then neither is taken)."""
    known = head.ids[ITEM].lookup(keys)
    other = np.zeros(len(keys), bool)
    at = np.flatnonzero(known >= 0)
    other[at] = head.ids[ITEM].gather("check", known[at]) != checks[at]
    unique, count = np.unique(keys, return_counts=True)
    return other | np.isin(keys, unique[count > 1])


def _id_rows(space: str, keys: np.ndarray, texts: pa.Array | pa.ChunkedArray) -> pa.Table:
    natural = texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
    return pa.table({"block": pa.repeat(space, len(keys)), "key": pa.array(keys), "natural_id": natural.cast(pa.string())})
