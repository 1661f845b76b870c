"""Why an item stands in a list: what each row adds to its score, and which micro-batches made the row what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow.compute as pc
from pyspark.sql import SparkSession

from freshet.asking import Items, ask, item_rows, last_context, newest, on_offer
from freshet.engine.features import given_context, natural_key
from freshet.errors import FreshetError
from freshet.head import Head
from freshet.leader import Choice, choices, leader
from freshet.learner import Learner
from freshet.models.contract import Asked, Part
from freshet.pipelines.assembly import half_lives, new_learner, segments
from freshet.pipelines.learned_events import natural_ids
from freshet.pipelines.list_rules import list_rules
from freshet.pipelines.opening import Reading, open_published
from freshet.pipelines.recommend import Names, partial_head
from freshet.pipelines.starting import check_structure
from freshet.printable import printable
from freshet.schema import PARAMETERS, POPULARITY, SEGMENT
from freshet.segments import SegmentSpec, segment_extras
from freshet.settings import ListSettings, Settings
from freshet.store.files import rows_of

LAST = 3  # changes that are told of a row
DAY = 86_400_000_000  # microseconds
MOVERS = 10


def explain(
    spark: SparkSession, settings: Settings, *, item: str, user: str | None = None, context: Mapping[str, str] | None = None,
    n: int = 10,
) -> dict[str, Any]:
    """Of a user and an item: score, its parts (largest first) with the row each rests on and that row's last changes.

    Of an item alone: its n neighbours, which are what somebody who just had it would be given, and the micro-batches that
    moved its rows most within the last day of the event clock. Raises FreshetError for an item the model has not met.
    """
    reading = open_published(spark, settings)
    check_structure(reading.snapshot, settings, reading.tables)
    learner = new_learner(settings)
    head = partial_head(reading, settings, learner, np.array([natural_key(user)] if user is not None else [], np.int64))
    if head.lookup(POPULARITY, np.array([natural_key(item)]))[0] < 0:
        raise FreshetError(f"The model has not met the item {item!r}.", remedy="Ids are matched byte for byte.", item=item)
    if user is None:
        return _of_item(reading, head, learner, settings, item, n)
    features = given_context(context, settings.model.features)[None, :] if context else None
    return _of_pair(reading, head, learner, settings, user, item, features)


def _of_pair(
    reading: Reading, head: Head, learner: Learner, settings: Settings, user: str, item: str, features: np.ndarray | None
) -> dict[str, Any]:
    model, lives, users = learner.model, half_lives(settings), np.array([natural_key(user)])
    among = choices(model.mixes, lives)
    choice = among[leader(head, among)]
    context = last_context(head, users) if features is None else features
    asked = ask(head, model, users, *newest(head, users, model.asked, settings.history.items), context)
    known = bool(model.known(asked)[0])
    row = head.lookup(POPULARITY, np.array([natural_key(item)]))
    on, spec = on_offer(head, model, row, lives), segments(settings)
    popularity = float(on.log_count[choice.number, 0])
    parts = _weighed(head, learner, asked, item, row, choice) if known else _of_segment(head, on, choice, context, spec)
    by_popularity = (choice.mix.popularity if known else 1.0) * popularity
    parts.append(Part("popularity", POPULARITY, int(row[0]), by_popularity))
    added = _by_rules(reading, settings, learner, head, int(row[0]))
    if np.isfinite(added):
        parts.append(Part("boost", "", -1, added))
    told = _told(reading, head, [part for part in parts if part.amount != 0.0])
    return {
        "user": user, "item": item, "snapshot_version": reading.version, "known_user": known,
        "listed": bool(np.isfinite(added)), "score": sum(part.amount for part in parts),
        "mix": str(choice) if known else "popularity", "parts": told,
    }


def _weighed(head: Head, learner: Learner, asked: Asked, item: str, row: np.ndarray, choice: Choice) -> list[Part]:
    dense, sparse = learner.model.parts(asked, natural_key(item), item_rows(head, learner.model, row))
    weights = [(choice.mix.dense, dense), (choice.mix.sparse, sparse)]
    return [replace(part, amount=weight * part.amount) for weight, parts in weights for part in parts]


def _of_segment(head: Head, on: Items, choice: Choice, context: np.ndarray, spec: SegmentSpec | None) -> list[Part]:
    """What the segment of the asker adds to the popularity of the one item on offer."""
    if spec is None:
        return []
    local = np.full(len(head.tables[POPULARITY]), -1, np.int32)
    local[on.rows] = 0
    row = int(head.lookup(SEGMENT, context[:, spec.column])[0])
    return [Part("segment", SEGMENT, row, float(amount)) for amount in segment_extras(head, on, choice, context, spec, local)[2]]


def _by_rules(reading: Reading, settings: Settings, learner: Learner, head: Head, row: int) -> float:
    """What the rules of lists add to the item in this row of `popularity`; not a number where they never list it."""
    if settings.lists == ListSettings():
        return 0.0
    rules = list_rules(reading, settings, learner.model, head, Names(reading).of(head.tables[POPULARITY].keys))
    return 0.0 if rules.added is None else float(rules.added[row])


def _told(reading: Reading, head: Head, parts: list[Part]) -> list[dict[str, Any]]:
    """The parts with names and changes of their rows, the largest first."""
    keys = [int(head.tables[part.block].keys[part.row]) if part.row >= 0 else None for part in parts]
    spaces = {part.block: head.blocks[part.block].ids for part in parts if part.block}
    names = _names(reading, [key for key in keys if key is not None])
    changes = _changes(reading, [(part.block, key) for part, key in zip(parts, keys, strict=True) if key is not None])
    told = []
    for part, key in zip(parts, keys, strict=True):
        own = changes.get((part.block, key), []) if key is not None else []
        told.append({
            "what": part.what, "of": names.get((spaces.get(part.block), key)), "amount": part.amount, "block": part.block,
            "key": key, "changed": own[-LAST:][::-1],
        })
    return sorted(told, key=lambda one: (-abs(one["amount"]), one["what"], str(one["of"])))


def _names(reading: Reading, keys: list[int]) -> dict[tuple[str | None, int | None], str]:
    """(id space, key) -> natural id."""
    known = natural_ids(reading.tables, reading.history, reading.version, keys=sorted(set(keys)))
    return {(row["block"], row["key"]): row["natural_id"] for row in known.to_pylist()}


def _changes(reading: Reading, rows: list[tuple[str, int]]) -> dict[tuple[str, int], list[dict[str, Any]]]:
    """(block, key) -> its committed changes, oldest first: the version, and how many events were behind it."""
    blocks, keys = (sorted(set(part)) for part in zip(*rows, strict=True))
    mine, columns = (("block", "in", blocks), ("key", "in", keys)), ("block", "key", "snapshot_version", "count")
    log = rows_of(reading.tables, PARAMETERS.name, reading.commits, columns, *mine, version=reading.version)
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in log.sort_by("snapshot_version").to_pylist():
        own = found.setdefault((row["block"], row["key"]), [])
        before = own[-1]["so_far"] if own else 0
        own.append({"version": row["snapshot_version"], "events": row["count"] - before, "so_far": row["count"]})
    return found


def _of_item(
    reading: Reading, head: Head, learner: Learner, settings: Settings, item: str, n: int
) -> dict[str, Any]:
    key = natural_key(item)
    near = _neighbours(head, learner, settings, key, n)
    names = _names(reading, [other for other, _ in near])
    return {
        "item": item, "snapshot_version": reading.version,
        "neighbours": [{"item_id": names.get(("item", other)), "score": score} for other, score in near],
        "moved": _movers(reading, head, learner, key),
    }


def _neighbours(head: Head, learner: Learner, settings: Settings, key: int, n: int) -> list[tuple[int, float]]:
    """(key, score) of what somebody would be given who has nothing but the item, popularity and biases left out; for a
    model that does not look at newest items the items of nearest vector."""
    model, lives = learner.model, half_lives(settings)
    among = choices(model.mixes, lives)
    mix = among[leader(head, among)].mix
    on = on_offer(head, model, np.arange(len(head.tables[POPULARITY]), dtype=np.int32), lives)
    own = int(head.lookup(POPULARITY, np.array([key]))[0])
    if not model.recent:
        length = np.maximum(np.linalg.norm(on.vectors, axis=1), 1e-12)
        scores = (on.vectors @ on.vectors[own]) / (length * length[own])
    else:
        recent = np.zeros((1, model.recent), np.int64)
        recent[0, 0] = key
        context = np.zeros((1, len(settings.model.features.context)), np.int64)
        asked = ask(head, model, np.zeros(1, np.int64), recent, np.ones(1, np.int32), context)
        scores = np.float64(mix.dense) * (on.vectors @ model.queries(asked)[0])
        extras = model.extras(asked)
        if extras is not None:
            rows = head.lookup(POPULARITY, extras.keys)
            scores[rows[rows >= 0]] += mix.sparse * extras.values[rows >= 0]
    scores[own] = -np.inf
    best = np.lexsort((on.keys, -scores))[: min(n, len(scores) - 1)]
    return [(int(on.keys[row]), float(scores[row])) for row in best]


def _movers(reading: Reading, head: Head, learner: Learner, key: int) -> list[dict[str, Any]]:
    """The versions of the last day that moved the item's rows furthest: block, distance between the vectors, events."""
    blocks = [block.name for block in learner.model.blocks() if block.ids == "item" and block.width]
    columns = ("block", "snapshot_version", "vector", "count", "last_event_at")
    mine = (("block", "in", blocks), ("key", "=", key))
    log = rows_of(reading.tables, PARAMETERS.name, reading.commits, columns, *mine, version=reading.version)
    table = log.sort_by("snapshot_version")
    found = []
    for block in blocks:
        before: dict[str, Any] | None = None
        for row in table.filter(pc.equal(table.column("block"), block)).to_pylist():
            moved = np.array(row["vector"], np.float64) - (np.array(before["vector"]) if before else 0.0)
            if row["last_event_at"].timestamp() * 1e6 >= head.clock - DAY:
                found.append({
                    "version": row["snapshot_version"], "block": block, "distance": float(np.linalg.norm(moved)),
                    "events": row["count"] - (before["count"] if before else 0), "at": row["last_event_at"].isoformat(),
                })
            before = row
    return sorted(found, key=lambda one: (-one["distance"], one["version"], one["block"]))[:MOVERS]


def in_words(found: Mapping[str, Any]) -> str:
    """What `explain` found, for people."""
    version = found["snapshot_version"]
    if "parts" not in found:
        lines = [f"{found['item']} at version {version}", "", "next to it:"]
        lines += [f"  {one['score']:8.3f}  {printable(str(one['item_id']))}" for one in found["neighbours"]]
        lines += ["", "what moved it most in the last day:"]
        for one in found["moved"]:
            lines.append(f"  {one['distance']:8.3f}  {one['block']} by version {one['version']} ({_events(one['events'])})")
        return "\n".join(lines)
    who = found["user"] if found["known_user"] else f"{found['user']}, of whom the model knows nothing,"
    lines = [f"{who} and {found['item']} at version {version}: {found['score']:.4f} = {found['mix']}"]
    if not found["listed"]:
        lines.append("  the rules of lists (settings under `lists`) keep this item out of every list")
    for part in found["parts"]:
        changed = ", ".join(f"{one['version']} ({_events(one['events'])})" for one in part["changed"])
        of = f" {printable(str(part['of']))}" if part["of"] is not None else ""
        lines.append(f"  {part['amount']:8.4f}  {part['what']}{of}{f'; last changed by version {changed}' if changed else ''}")
    return "\n".join(lines)


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"
