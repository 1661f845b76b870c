"""Rows of the head as rows of the tables, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from freshet.models.contract import Block, Rows

TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema([
    ("block", pa.string()), ("key", pa.int64()), ("vector", pa.list_(pa.float32())), ("slots", pa.list_(pa.float32())),
    ("links", pa.list_(pa.int64())), ("count", pa.int64()), ("last_event_at", TIME), ("deleted", pa.string()),
])


def to_arrow(blocks: Mapping[str, Block], changed: Mapping[str, Rows]) -> pa.Table:
    """The rows of several blocks as one table with the columns of `parameters` that are not the commit's."""
    return pa.concat_tables([_block_table(blocks[name], rows) for name, rows in changed.items()] or [SCHEMA.empty_table()])


def _block_table(block: Block, rows: Rows) -> pa.Table:
    n = len(rows)
    name = pa.DictionaryArray.from_arrays(pa.array(np.zeros(n, np.int32)), [block.name]).cast(pa.string())
    links = pa.nulls(n, pa.list_(pa.int64()))
    if block.links:
        used = np.arange(block.links) < rows.filled[:, None]
        offsets = np.concatenate([[0], np.cumsum(rows.filled)]).astype(np.int32)
        links = pa.ListArray.from_arrays(offsets, rows.links[used])
    columns = [
        name, pa.array(rows.keys), _floats(rows.values[:, : block.width]), _floats(rows.values[:, block.width :]), links,
        pa.array(rows.count), pa.array(rows.last_at).cast(TIME), pa.nulls(n, pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def deleted(block: str, keys: np.ndarray, reason: str) -> pa.Table:
    """Rows that say of these keys that the block has them no more, and why."""
    n = len(keys)
    given = {"block": pa.repeat(block, n), "key": pa.array(keys), "count": pa.repeat(0, n), "deleted": pa.repeat(reason, n)}
    columns = [given[field.name].cast(field.type) if field.name in given else pa.nulls(n, field.type) for field in SCHEMA]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _floats(matrix: np.ndarray) -> pa.Array:
    rows, width = matrix.shape
    if not width:
        return pa.nulls(rows, pa.list_(pa.float32()))
    offsets = np.arange(0, (rows + 1) * width, width, dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, np.ascontiguousarray(matrix).reshape(-1))


def from_arrow(block: Block, table: pa.Table) -> Iterable[Rows]:
    """The rows of one block, a batch at a time; raises ValueError when their shape is not the block's."""
    for batch in table.to_batches():
        n = batch.num_rows
        if not n:
            continue
        values = np.empty((n, block.width + block.slots), np.float32)
        values[:, : block.width] = _matrix(batch.column("vector"), n, block.width)
        values[:, block.width :] = _matrix(batch.column("slots"), n, block.slots)
        filled = np.zeros(n, np.int32)
        links = np.zeros((n, block.links), np.int64)
        if block.links:
            column = batch.column("links")
            filled = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int32)
            links[np.arange(block.links) < filled[:, None]] = column.flatten().to_numpy()
        yield Rows(
            batch.column("key").to_numpy(), values, links, filled, batch.column("count").to_numpy(),
            batch.column("last_event_at").cast(pa.timestamp("us")).cast(pa.int64()).to_numpy(),
        )


def _matrix(column: pa.Array, rows: int, width: int) -> np.ndarray:
    flat = column.flatten().to_numpy()
    if len(flat) != rows * width:
        raise ValueError(f"{len(flat)} numbers in {rows} rows where {width} a row were wanted")
    return np.asarray(flat).reshape(rows, width)
