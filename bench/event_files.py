"""Event files of random ids with the shape of a big public rating set, one file a micro-batch, JSON lines or Parquet."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from freshet.demo.records import json_lines, write_json
from freshet.demo.shapes import Shaped, shaped

FIRST_AT = 1_750_000_000_000_000  # event time of the first event, microseconds
STEP = 20_000  # microseconds between two events


class EventFiles:
    """Files of `rows` events each, made in memory before anything is timed; `drop` lands one at once."""

    def __init__(self, files: int, rows: int, format: str = "json", seed: int = 1, shape: Shaped | None = None) -> None:
        self.rows, self.format = rows, format
        self.shape = shaped(events=files * rows, seed=seed) if shape is None else shape
        self._landed = 0

    def table(self, number: int) -> pa.Table:
        """The events of one file."""
        ordinal = np.arange(number * self.rows, (number + 1) * self.rows)
        return event_table(self.shape.user[ordinal], self.shape.item[ordinal], self.shape.value[ordinal], ordinal)

    def write(self, number: int, path: Path) -> None:
        """One file under its name, finished."""
        write_events(self.table(number), path, self.format)

    def drop(self, number: int, *folders: Path) -> list[Path]:
        """Copies of one file, hidden in each folder until `land`."""
        made = []
        for folder in folders:
            hidden = folder / f"_events-{number:06d}.{self.format}"
            if made:
                os.link(made[0], hidden)
            else:
                self.write(number, hidden)
            made.append(hidden)
        return made


def land(hidden: Path) -> float:
    """Give a hidden file its name, its modification time now and later than that of any file before; time.time() then."""
    now = time.time_ns() // 1_000_000 * 1_000_000
    os.utime(hidden, ns=(now, now))
    hidden.rename(hidden.with_name(hidden.name.removeprefix("_")))
    return time.time()


def event_table(user: np.ndarray, item: np.ndarray, value: np.ndarray, ordinal: np.ndarray) -> pa.Table:
    """The columns of default.yaml's mapping."""
    n = len(ordinal)

    def named(letter: str, number: np.ndarray) -> pa.Array:
        return pc.binary_join_element_wise(letter, pa.array(number).cast(pa.string()), "")

    at = pa.array(FIRST_AT + ordinal.astype(np.int64) * STEP).cast(pa.timestamp("us", "UTC"))
    return pa.table({
        "event_id": named("e", ordinal), "user_id": named("u", user), "item_id": named("i", item),
        "event_type": pa.repeat("view", n), "value": pa.array(value, pa.float64()), "event_at": at,
    })


def write_events(table: pa.Table, path: Path, format: str) -> None:
    """A table of events as one file."""
    if format == "parquet":
        pq.write_table(table, path)
        return
    text = table.set_column(4, "value", table.column("value").cast(pa.string()))
    write_json(path, json_lines(text))
