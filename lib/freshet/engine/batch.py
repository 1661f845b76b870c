"""One micro-batch on the driver: collected once, completed with what needs to see all of it, in canonical order.

`collect(clean(...), fingerprint)` -> CleanBatch, the same bits for every split of the files, every number of tasks and
every order in which they end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from freshet.engine import content_ids
from freshet.engine.clean import ARRIVAL, FILE
from freshet.engine.faults import named
from freshet.engine.file_names import by_key
from freshet.engine.rules import FUTURE, TOO_OLD
from freshet.errors import SourceChanged
from freshet.schema import EVENTS, QUARANTINE

_COMMIT = ("branch", "snapshot_version", "commit_id")
_DECIDED_LATER = ("corrects",)
_KEYS = ("user_key", "item_key", "event_hash", "dedup_key", "user_check", "item_check")
ACCEPTED_COLUMNS = [*(name for name in EVENTS.names if name not in (*_COMMIT, *_DECIDED_LATER)), *_KEYS]
QUARANTINE_COLUMNS = [name for name in QUARANTINE.names if name not in _COMMIT]
_UTC = pa.timestamp("us", tz="UTC")


class Planned(Protocol):
    """What a micro-batch was planned to read: the files as the checkpoint names them, the logged time of the batch."""

    @property
    def files(self) -> Sequence[str]: ...
    @property
    def batch_time_us(self) -> int: ...


@dataclass(frozen=True)
class CleanBatch:
    """A micro-batch after cleaning: read = accepted.num_rows + quarantined.num_rows.

    accepted: ACCEPTED_COLUMNS, candidates in the order (event_at, event_hash, revision); late and duplicate ones are
    still among them. quarantined: QUARANTINE_COLUMNS, in the order (source, position).
    """

    accepted: pa.Table
    quarantined: pa.Table
    read: int


def collect(frame: DataFrame, planned: Planned) -> CleanBatch:
    """Run the one job of a cleaned frame and complete its records; raises SourceRefused when a file cannot be read as
    planned, SourceChanged when a record comes from a file that was not planned."""
    try:
        # Numbered here because a stream cannot: every task still hands its rows on in the order it read them.
        table = frame.withColumn("ordinal", F.monotonically_increasing_id()).toArrow()
    except (PySparkException, Py4JJavaError) as error:
        refusal = named(error)
        if refusal is None:
            raise
        raise refusal from error
    notes = frame.schema[FILE].metadata
    return complete(table, planned, dict(frame.schema[ARRIVAL].metadata), notes.get("table"), notes.get("offsets", False))


def complete(
    table: pa.Table, planned: Planned, window: dict[str, int], delta_table: str | None = None, offsets: bool = False
) -> CleanBatch:
    """The records of `table` (clean.CLEANED) as a CleanBatch; pure.

    `window` holds `future_us` and maybe `age_us` where the rules did not know arrival, or not for sure; `delta_table` names the
    source where files are not of interest; with `offsets` a block starts at each record's place in its partition. With a
    column `position` the table is a part of its files, and knows.
    """
    table = table.combine_chunks()
    columns = _numbers(table)
    if "position" in table.column_names:
        position = table.column("position").to_numpy()
    elif offsets:
        position = columns["block_start"]
    else:
        position = positions(columns["file_key"], columns["block_start"], columns["ordinal"])
    arrived = _filled(table, "arrived_at", np.full(table.num_rows, planned.batch_time_us, np.int64))
    arrived = np.minimum(arrived, planned.batch_time_us) if offsets else arrived
    event_at = _filled(table, "event_at", arrived + position)
    reason = _judged(table, event_at, arrived, window)
    source = _sources(columns["file_key"], planned, delta_table)
    table = _replaced(table, {
        "position": pa.array(position), "source": source, "reason": reason,
        "arrived_at": pa.array(arrived).cast(_UTC), "event_at": pa.array(event_at).cast(_UTC),
    })  # fmt: skip
    if table.num_rows and table.column("event_id").null_count and not table.column("content_hash").null_count:
        table = _with_ids(table, columns, position, offsets)
    accepted = pc.is_null(table.column("reason"))
    return CleanBatch(canonical(table.filter(accepted)), _refused(table.filter(pc.invert(accepted))), table.num_rows)


def _numbers(table: pa.Table) -> dict[str, np.ndarray]:
    return {name: table.column(name).to_numpy() for name in ("file_key", "block_start", "ordinal")}


def positions(file_key: np.ndarray, block_start: np.ndarray, ordinal: np.ndarray) -> np.ndarray:
    """int64[n]: 0, 1, 2, ... in each file, by (block, ordinal); rows of one block were read by one task, in order."""
    order = np.lexsort((ordinal, block_start, file_key))
    starts = np.ones(len(order), bool)
    starts[1:] = file_key[order[1:]] != file_key[order[:-1]]
    found = np.empty(len(order), np.int64)
    found[order] = content_ids.count_in_groups(starts)
    return found


def _filled(table: pa.Table, name: str, default: np.ndarray) -> np.ndarray:
    """Microseconds of a time, `default` where it is null."""
    column = table.column(name).cast(_UTC).cast(pa.int64())
    if column.null_count == 0:
        return np.asarray(column.to_numpy())
    known = pc.is_valid(column).to_numpy()
    return np.where(known, pc.fill_null(column, 0).to_numpy(), default)


def _judged(table: pa.Table, event_at: np.ndarray, arrived: np.ndarray, window: dict[str, int]) -> pa.ChunkedArray:
    """Reasons, with the two rules that compare with arrival asked here for sources whose files have no time."""
    reason = table.column("reason")
    if not window:
        return reason
    open_ = pc.is_null(reason).to_numpy()
    for name, broken in ((FUTURE, event_at > arrived + window["future_us"]),
                         (TOO_OLD, event_at < arrived - window.get("age_us", 1 << 62))):
        reason = pc.if_else(pa.array(open_ & broken), name, reason)
        open_ &= ~broken
    return reason


def _sources(file_key: np.ndarray, planned: Planned, delta_table: str | None) -> pa.Array:
    """Path of each record's file, or the Delta table."""
    if delta_table is not None:
        return pa.DictionaryArray.from_arrays(np.zeros(len(file_key), np.int32), [delta_table]).cast(pa.string())
    keys, which = np.unique(file_key, return_inverse=True)
    known = by_key(planned.files)
    strange = [key for key in keys.tolist() if key not in known]
    if strange:
        what = f"Records came from {len(strange)} files that this micro-batch was not planned to read."
        raise SourceChanged(what, remedy="Start again.", path=None, planned=list(planned.files), found=strange)
    names = pa.array([known[key] for key in keys.tolist()], pa.string())
    return pa.DictionaryArray.from_arrays(which.astype(np.int32), names).cast(pa.string())


def _replaced(table: pa.Table, columns: dict[str, pa.Array]) -> pa.Table:
    for name, column in columns.items():
        at = table.schema.get_field_index(name)
        table = table.append_column(name, column) if at < 0 else table.set_column(at, name, column)
    return table


def _with_ids(table: pa.Table, columns: dict[str, np.ndarray], position: np.ndarray, offsets: bool) -> pa.Table:
    content, check = (table.column(name).to_numpy() for name in ("content_hash", "content_check"))
    # A file is read whole, so repeats can be counted in it; of a partition a micro-batch is a part.
    place = position if offsets else content_ids.ordinals(content, check, columns["file_key"], position)
    ids = content_ids.content_ids(content, check, columns["file_key"], place)
    event_hash, dedup_key = content_ids.keys(ids)
    texts = content_ids.as_texts(ids)
    filled = {"event_id": texts, "event_hash": pa.array(event_hash), "dedup_key": pa.array(dedup_key)}
    return _replaced(table, filled)


def canonical(table: pa.Table) -> pa.Table:
    """Events in the order (event_at, event_hash, revision), with ACCEPTED_COLUMNS."""
    table = table.combine_chunks()
    names = ("event_at", "event_hash", "revision")
    first = [np.asarray(table.column(name).cast(pa.int64()).to_numpy()) for name in names]
    order = np.lexsort(first[::-1])
    ties = np.ones(max(len(order) - 1, 0), bool)
    for key in first:
        ties &= key[order[1:]] == key[order[:-1]]
    if ties.any():  # repeats of one event: their content decides, never the file
        more = [table.column(name).to_numpy() for name in ("user_key", "item_key", "value", "weight")]
        tied = np.zeros(len(order), bool)
        tied[order[1:][ties]] = tied[order[:-1][ties]] = True
        rest = np.zeros(len(order), np.int64)
        rest[tied] = pc.rank(_else(table.filter(pa.array(tied))), tiebreaker="dense").to_numpy()
        order = np.lexsort([rest, *more[::-1], *first[::-1]])
    return table.select(ACCEPTED_COLUMNS).take(pa.array(order))


def _else(events: pa.Table) -> pa.Array:
    """One text per event of what it says beside who, what, when and how much."""
    context = events.column("context").combine_chunks()
    pairs = pc.binary_join_element_wise(context.keys, context.items, "=")
    joined = pc.binary_join(pa.ListArray.from_arrays(context.offsets, pairs), "\x1f")
    texts = [events.column(name).cast(pa.string()) for name in ("event_type", "propensity", "arrived_at")]
    return pc.binary_join_element_wise(*(pc.fill_null(text, "") for text in (*texts, joined)), "\x1e").combine_chunks()


def _refused(table: pa.Table) -> pa.Table:
    raw = pc.coalesce(table.column("raw"), as_text(table))
    table = table.set_column(table.schema.get_field_index("raw"), "raw", raw).select(QUARANTINE_COLUMNS)
    return table.sort_by([("source", "ascending"), ("position", "ascending")])


def as_text(events: pa.Table) -> pa.ChunkedArray:
    """One JSON text per event, for records whose own text was not kept because no rule refused them."""
    parts: list[object] = ["{"]
    for name in ("event_id", "user_id", "item_id", "event_type"):
        text = events.column(name).cast(pa.string())
        # No control characters: a rule has refused those.
        for character in ("\\", '"'):
            text = pc.replace_substring(text, character, "\\" + character)
        parts += [f'"{name}": "', pc.fill_null(text, ""), '", ']
    number = pc.fill_null(events.column("value").cast(pa.string()), "null")
    time = pc.fill_null(pc.strftime(events.column("event_at"), "%Y-%m-%dT%H:%M:%SZ"), "")
    parts += ['"value": ', number, ', "event_at": "', time, '"}']
    return pc.binary_join_element_wise(*parts, "")
