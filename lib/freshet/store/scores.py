"""The metrics of snapshot rows, of many versions at once."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from freshet.schema import SNAPSHOTS
from freshet.store.files import all_rows
from freshet.store.tables import Tables


def metrics_of(tables: Tables, first: int, last: int, wanted: pc.Expression) -> dict[str, list[dict[str, Any]]]:
    """Commit id -> its metrics for which `wanted`, an expression over their fields, is true, for every row of `snapshots` with
    a version from `first` to `last`."""
    rows = all_rows(tables, SNAPSHOTS.name, ("commit_id", "metrics"), ("version", ">=", first), ("version", "<", last + 1))
    found: dict[str, list[dict[str, Any]]] = {commit_id: [] for commit_id in rows.column("commit_id").to_pylist()}
    metrics = rows.column("metrics").combine_chunks()
    owner = rows.column("commit_id").combine_chunks().take(pc.list_parent_indices(metrics))
    told = pa.Table.from_struct_array(pc.list_flatten(metrics)).append_column("commit_id", owner)
    for row in told.filter(wanted).to_pylist():
        found[row.pop("commit_id")].append(row)
    return found
