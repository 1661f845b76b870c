"""Events as records of a file, without a Python loop over them: the text is joined in Arrow, column by column.

A record: event_id, revision, user_id, item_id, event_type, value, event_at, device. Numbers are held as the text that
will stand in the file, so that dirt can put there what no number is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from freshet.demo.generator import DEVICES, Events, item_ids, user_ids
from freshet.demo.truth import CLICKS, World

NAMES = ("event_id", "revision", "user_id", "item_id", "event_type", "value", "event_at", "device")
TYPES = {"clicks": "click", "ratings": "rating"}  # kind of world -> event type
_NUMBERS = ("revision", "value")


def records(world: World, drawn: Events) -> pa.Table:
    """The records of drawn events, all of them clean."""
    count = len(drawn)
    return pa.table({
        "event_id": pc.binary_join_element_wise("e", pa.array(drawn.ordinal).cast(pa.string()), ""),
        "revision": pa.repeat(pa.scalar("0"), count),
        "user_id": user_ids(drawn.user),
        "item_id": item_ids(drawn.item),
        "event_type": pa.repeat(pa.scalar(TYPES[world.kind]), count),
        "value": pa.repeat(pa.scalar("1"), count) if world.kind == CLICKS else pa.array(drawn.value).cast(pa.string()),
        "event_at": pa.array(drawn.event_at, pa.timestamp("us", "UTC")),
        "device": pa.array(DEVICES).take(pa.array(drawn.device)),
    })


def json_lines(table: pa.Table) -> pa.Array:
    """One JSON object a record, without its newline; a null is left out."""
    parts: list[pa.Array | str] = ["{"]
    for name in table.column_names:
        comma = "" if name == table.column_names[0] else ", "
        quote = "" if name in _NUMBERS else '"'
        field = pc.binary_join_element_wise(f'{comma}"{name}": {quote}', _text(table, name), quote, "")
        parts.append(pc.coalesce(field, ""))
    return pc.binary_join_element_wise(*parts, "}", "")


def csv_lines(table: pa.Table) -> pa.Array:
    """One comma-separated line a record, without its newline; a null is an empty field."""
    columns = [pc.coalesce(_text(table, name), "") for name in table.column_names]
    return pc.binary_join_element_wise(*columns, ",")


def write_json(path: Path, lines: pa.Array) -> None:
    """The lines, each with a newline."""
    path.write_bytes(_bytes(lines))


def write_csv(path: Path, lines: pa.Array) -> None:
    """The lines under a header line."""
    path.write_bytes(",".join(NAMES).encode() + b"\n" + _bytes(lines))


def write_parquet(path: Path, table: pa.Table) -> None:
    """The records as typed columns."""
    typed = table.set_column(NAMES.index("value"), "value", table["value"].cast(pa.float64()))
    pq.write_table(typed.set_column(NAMES.index("revision"), "revision", typed["revision"].cast(pa.int64())), path)


# format -> how its lines are made and written; parquet has no lines
LINES: dict[str, tuple[Callable[[pa.Table], pa.Array], Callable[[Path, pa.Array], None]]] = {
    "json": (json_lines, write_json),
    "csv": (csv_lines, write_csv),
}
FORMATS = (*LINES, "parquet")


def _text(table: pa.Table, name: str) -> pa.Array:
    column = table[name].combine_chunks()
    if not pa.types.is_timestamp(column.type):
        return column
    # 2025-01-01 00:00:09.225222 -> 2025-01-01T00:00:09.225222Z; strftime takes fifteen times as long.
    text = column.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(text, 10, 11, "T"), "Z", "")


def _bytes(lines: pa.Array) -> bytes:
    """The values of a string array stand one after the other in its buffer: with their newlines, that is the file."""
    ended = pc.binary_join_element_wise(lines, "\n", "")
    if not len(ended):
        return b""
    ends = np.frombuffer(ended.buffers()[1], dtype=np.int32)[ended.offset:ended.offset + len(ended) + 1]
    return bytes(ended.buffers()[2][int(ends[0]):int(ends[-1])])
