"""What goes wrong in real streams, planted and counted: each kind has a share of the events and a known outcome.

Dirt is added to the clean events of a file, never put in their place: what must be accepted is the same with and
without it. A dirty record copies a clean one of the same file, under an id of its own, and breaks one field.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from freshet import schema

LONG_ID_LENGTH = 5000
_FUTURE = "2099-01-01T00:00:00.000000Z"

# kind -> what must become of such a record
OUTCOMES: dict[str, str] = {
    "duplicate": schema.DUPLICATE,  # the same record twice in one file
    "duplicate_later": schema.DUPLICATE,  # the same record again in the next file
    "late": schema.LATE,
    "malformed": schema.QUARANTINED,  # a line cut short
    "nan_value": schema.QUARANTINED,
    "infinite_value": schema.QUARANTINED,  # 1e999, which parsers take for infinity
    "text_value": schema.QUARANTINED,
    "missing_user": schema.QUARANTINED,
    "empty_item": schema.QUARANTINED,
    "far_future": schema.QUARANTINED,
    "unknown_type": schema.QUARANTINED,
    "long_id": schema.QUARANTINED,
    "bad_revision": schema.QUARANTINED,
}

UNTYPED = ("malformed", "text_value")  # kinds that a typed file (Parquet) cannot hold


@dataclass(frozen=True)
class Dirt:
    """Dirty records of each kind per clean event (0: none).

    Late records lie `late_by_seconds` back, and stand in files from number `late_from_file` on: before its first
    micro-batch a learner has no clock that anything could be late by, and that may take several files.
    """

    duplicate: float = 0
    duplicate_later: float = 0
    late: float = 0
    malformed: float = 0
    nan_value: float = 0
    infinite_value: float = 0
    text_value: float = 0
    missing_user: float = 0
    empty_item: float = 0
    far_future: float = 0
    unknown_type: float = 0
    long_id: float = 0
    bad_revision: float = 0
    late_by_seconds: float = 60 * 86_400
    late_from_file: int = 8

    def __post_init__(self) -> None:
        wrong = [kind for kind, share in self.shares.items() if not 0 <= share <= 1]
        if wrong:
            raise ValueError(f"the share of {', '.join(wrong)} is not between 0 and 1")

    @classmethod
    def spread(cls, share: float, without: tuple[str, ...] = ()) -> Dirt:
        """`share` of dirt in all, the same of every kind but those of `without`."""
        kinds = [kind for kind in OUTCOMES if kind not in without]
        shares: dict[str, Any] = dict.fromkeys(kinds, share / len(kinds))
        return cls(**shares)

    @property
    def shares(self) -> dict[str, float]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in OUTCOMES}


def draw(dirt: Dirt, clean: pa.Table, seed: int, file: int) -> dict[str, pa.Table]:
    """Dirty records by kind, made from the records of file number `file`.

    `duplicate_later` comes as it is and belongs into the next file; `malformed` is whole and has yet to be cut.
    """
    rng = np.random.default_rng((seed, file, 0xD1))
    made = {}
    for number, (kind, share) in enumerate(dirt.shares.items()):
        count = rng.binomial(clean.num_rows, share)
        rows = np.sort(rng.choice(clean.num_rows, size=count, replace=False))
        if count and not (kind == "late" and file < dirt.late_from_file):
            made[kind] = _break(kind, number, clean.take(rows), int(dirt.late_by_seconds * 1e6))
    return made


def _break(kind: str, number: int, records: pa.Table, late_by_us: int) -> pa.Table:
    if OUTCOMES[kind] == schema.DUPLICATE:
        return records
    records = _put(records, "event_id", pc.binary_join_element_wise(records["event_id"], f"x{number}", ""))
    if kind == "late":
        back = pc.subtract(records["event_at"], pa.scalar(late_by_us, pa.duration("us")))
        return _put(records, "event_at", back)
    if kind in _BROKEN_FIELDS:
        name, text = _BROKEN_FIELDS[kind]
        return _put(records, name, pa.repeat(text, records.num_rows).cast(records.schema.field(name).type))
    return records


# kind -> the field it breaks and what then stands there; numbers are text as it stands in a file
_BROKEN_FIELDS: dict[str, tuple[str, pa.Scalar]] = {
    "nan_value": ("value", pa.scalar("NaN")),
    "infinite_value": ("value", pa.scalar("1e999")),
    "text_value": ("value", pa.scalar('"five"')),
    "missing_user": ("user_id", pa.scalar(None, pa.string())),
    "empty_item": ("item_id", pa.scalar("")),
    "far_future": ("event_at", pa.scalar(_FUTURE)),
    "unknown_type": ("event_type", pa.scalar("teleport")),
    "long_id": ("user_id", pa.scalar("u" * LONG_ID_LENGTH)),
    "bad_revision": ("revision", pa.scalar("-1")),
}


def _put(records: pa.Table, name: str, column: pa.ChunkedArray | pa.Array) -> pa.Table:
    return records.set_column(records.column_names.index(name), name, column)
