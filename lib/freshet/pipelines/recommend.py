"""Lists from the tables: for one user at once, or for many into the `recommendations` table."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from freshet.engine.features import given_context, natural_key
from freshet.errors import FreshetError, StoreFailed
from freshet.failpoint import failpoint
from freshet.head import TOTALS, Head
from freshet.kernels.history import archive_keys, ring_of
from freshet.learner import Learner
from freshet.lists import Lists, Shelf, shelf, top_items
from freshet.models.contract import ATTRIBUTE, FEATURE, ITEM, USER
from freshet.pipelines.assembly import half_lives, new_head, new_learner, segments
from freshet.pipelines.learned_events import natural_ids
from freshet.pipelines.list_rules import list_rules
from freshet.pipelines.opening import Reading, load_head, open_published
from freshet.pipelines.outward import send_lists
from freshet.pipelines.rows import from_arrow
from freshet.pipelines.starting import check_structure
from freshet.schema import (
    HISTORY,
    HISTORY_ARCHIVE,
    ITEM_ATTRIBUTES,
    ITEMS,
    LAST_CONTEXT,
    MIX,
    POPULARITY,
    REASONS,
    RECOMMENDATIONS,
    SEGMENT,
)
from freshet.settings import Settings
from freshet.store.files import all_rows
from freshet.store.lock import model_lock
from freshet.store.parameters import load_arrow

USERS_AT_ONCE = 20_000


def recommend_user(
    spark: SparkSession, settings: Settings, *, user: str, n: int = 10, context: Mapping[str, str] | None = None
) -> list[dict[str, Any]]:
    """The list of n items of a user at the newest version: rank, item_id, title, score, reason, propensity, snapshot_version.

    `context` says in what context he asks (column -> value); without one it is that of his last event. A user nobody has
    met gets the popular items, and the reasons (schema.REASONS) say so. Reads the user's rows and the items', not the whole
    state. Raises UnknownName for a column that is not in model.features.context.
    """
    return recommend_users(spark, settings, [user], n=n, context=context)[user]


def recommend_users(
    spark: SparkSession, settings: Settings, users: Sequence[str], *, n: int = 10, context: Mapping[str, str] | None = None
) -> dict[str, list[dict[str, Any]]]:
    """As recommend_user, for several users at once, all in the same context where one is given."""
    asked = given_context(context, settings.model.features) if context else None
    reading = open_published(spark, settings)
    check_structure(reading.snapshot, settings, reading.tables)
    keys = np.array([natural_key(user) for user in users], np.int64)
    learner = new_learner(settings)
    head = partial_head(reading, settings, learner, keys)
    names = Names(reading)
    on = _shelf(reading, settings, learner, head, names)
    features = None if asked is None else np.tile(asked, (len(users), 1))
    lists = top_items(head, learner.model, on, keys, n, settings.history.items, features)
    items = all_rows(reading.tables, ITEMS.name, ("item_id", "title")).to_pylist()
    titles = {row["item_id"]: row["title"] for row in items}
    return {user: _places(lists, number, names, titles, reading.version) for number, user in enumerate(users)}


def _places(lists: Lists, number: int, names: Names, titles: dict[str, str], version: int) -> list[dict[str, Any]]:
    ids = names.of(lists.items[number, : lists.length[number]]).to_pylist()
    words = list(REASONS)
    return [
        {"rank": place + 1, "item_id": item, "title": titles.get(item), "score": float(lists.scores[number, place]),
         "reason": words[lists.reasons[number, place]], "propensity": float(lists.propensity[number, place]),
         "snapshot_version": version}
        for place, item in enumerate(ids)
    ]


def _shelf(reading: Reading, settings: Settings, learner: Learner, head: Head, names: Names) -> Shelf:
    """The items of the head with the rules of the settings."""
    keys, model = head.tables[POPULARITY].keys, learner.model
    rules = list_rules(reading, settings, model, head, names.of(keys))
    return shelf(head, model, half_lives(settings), names.order(keys), rules, segments(settings))


def recommend_batch(
    spark: SparkSession, settings: Settings, *, n: int = 10, touched_since: int | None = None
) -> dict[str, Any]:
    """Write lists of all users, or of those who learned something after version `touched_since`, to `recommendations`.

    The users are taken in blocks, so memory is bounded; a block is a file. Returns what was written. Raises AlreadyRunning while
    another process writes lists, StoreFailed where they are written and could not be sent.
    """
    reading = open_published(spark, settings)
    check_structure(reading.snapshot, settings, reading.tables)
    learner = new_learner(settings)
    head = load_head(reading, settings, learner)
    names, users = Names(reading), Names(reading, USER)
    on = _shelf(reading, settings, learner, head, names)
    chosen = np.sort(_users(reading, head, touched_since))
    made_at, run, written = datetime.now(UTC), secrets.token_hex(6), 0
    unsent: StoreFailed | None = None
    with model_lock(reading.tables.path(RECOMMENDATIONS.name)):  # on local disk two that append at once can lose a commit
        for start in range(0, len(chosen), USERS_AT_ONCE):
            keys = chosen[start : start + USERS_AT_ONCE]
            lists = top_items(head, learner.model, on, keys, n, settings.history.items)
            rows = list_rows(lists, users.of(keys), names, reading.version, made_at, run, start)
            failpoint("before_lists", start)
            reading.tables.append(RECOMMENDATIONS.name, rows)
            failpoint("after_lists", start)
            unsent = unsent or send_lists(spark, settings.sink.kafka, rows)  # the table is written to its end all the same
            written += rows.num_rows
    if unsent is not None:
        raise unsent
    return {"users": len(chosen), "rows": written, "snapshot_version": reading.version, "run": run}


def list_rows(
    lists: Lists, users: pa.Array, names: Names, version: int, made_at: datetime, run: str, first: int
) -> pa.Table:
    """Rows of the `recommendations` table; `first` is the number of the first list in its run."""
    owner, place = np.nonzero(np.arange(lists.items.shape[1]) < lists.length[:, None])
    m = len(owner)
    user_ids = pa.array(users).take(pa.array(owner))
    reasons = pa.array(list(REASONS)).take(pa.array(lists.reasons[owner, place]))
    columns = {
        "list_id": pc.binary_join_element_wise(pa.repeat(run, m), pa.array(first + owner).cast(pa.string()), "-"),
        "user_id": user_ids, "rank": pa.array(place + 1).cast(pa.int32()),
        "item_id": names.of(lists.items[owner, place]), "score": pa.array(lists.scores[owner, place]).cast(pa.float64()),
        "reason": reasons, "propensity": pa.array(lists.propensity[owner, place]),
        "snapshot_version": pa.array(np.full(m, version)),
        "made_at": pa.repeat(pa.scalar(made_at, pa.timestamp("us", tz="UTC")), m),
    }
    return pa.table(columns)


class Names:
    """Natural ids of one id space, by key."""

    def __init__(self, reading: Reading, space: str = ITEM) -> None:
        table = natural_ids(reading.tables, reading.history, reading.version, (space,))
        keys = table.column("key").to_numpy()
        order = np.argsort(keys)
        self._keys = keys[order]
        self._ids = table.column("natural_id").combine_chunks().take(pa.array(order))

    def of(self, keys: np.ndarray) -> pa.Array:
        """The natural id of each key."""
        return self._ids.take(pa.array(np.searchsorted(self._keys, keys)))

    def order(self, keys: np.ndarray) -> np.ndarray:
        """int64 rank of each key among these keys, by natural id."""
        order = np.empty(len(keys), np.int64)
        order[pc.sort_indices(self.of(keys)).to_numpy()] = np.arange(len(keys))
        return order


def partial_head(reading: Reading, settings: Settings, learner: Learner, users: np.ndarray) -> Head:
    """A head with all items and some users."""
    head = new_head(learner.model, settings)
    ring = np.arange(ring_of(settings.history.items))
    archive = archive_keys(np.repeat(users, len(ring)), np.tile(ring, len(users)))
    spaces = (ITEM, USER, FEATURE, ATTRIBUTE, None)
    own = {space: tuple(block.name for block in learner.model.blocks() if block.ids == space) for space in spaces}
    last = (LAST_CONTEXT,) if LAST_CONTEXT in head.blocks else ()
    described = (*own[ATTRIBUTE], ITEM_ATTRIBUTES) if ITEM_ATTRIBUTES in head.blocks else ()
    counted = (SEGMENT, TOTALS) if SEGMENT in head.blocks else ()
    for blocks, keys in (
        ((*own[ITEM], *own[FEATURE], *own[None], *described, *counted, POPULARITY, MIX), None),
        ((*own[USER], HISTORY, *last), users.tolist()), ((HISTORY_ARCHIVE,), archive.tolist()),
    ):
        for name, table in load_arrow(reading.tables, reading.history, reading.version, blocks, keys).items():
            for rows in from_arrow(head.blocks[name], table.combine_chunks()):
                head.put(name, rows)
    head.clock = reading.snapshot.event_clock or 0
    return head


def _users(reading: Reading, head: Head, touched_since: int | None) -> np.ndarray:
    if touched_since is None:
        return head.tables[HISTORY].keys.copy()
    if not reading.history.on_path(reading.version, touched_since):
        raise FreshetError(
            f"Version {touched_since} is not part of version {reading.version}, of which lists are made: who changed is not known.",
            remedy="Make all lists: --all without --touched-since.", version=touched_since,
        )
    histories = load_arrow(reading.tables, reading.history, reading.version, (HISTORY,)).get(HISTORY)
    if histories is None:
        return np.empty(0, np.int64)
    return np.asarray(histories.filter(pc.greater(histories.column("snapshot_version"), touched_since)).column("key").to_numpy())



