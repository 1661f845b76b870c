"""The shape a source must have before anything is read: columns that are there, of types that lose nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pyspark.sql.types import (
    BooleanType,
    DataType,
    DateType,
    DecimalType,
    IntegralType,
    NumericType,
    StringType,
    StructType,
    TimestampNTZType,
    TimestampType,
)

from freshet.errors import SourceRefused

if TYPE_CHECKING:
    from freshet.engine.sources import Source

FIELDS = ("event_id", "revision", "user_id", "item_id", "event_type", "value", "weight", "propensity", "event_at")

_NAMES = (StringType, IntegralType)
_NUMBERS = (StringType, NumericType, BooleanType)

# Types a column may have. Ids are text or whole numbers: a float would say 9007199254740993 as 9007199254740992.0, and
# a column that was an integer until it met a missing value is a float (pandas).
ALLOWED: dict[str, tuple[type[DataType], ...]] = {
    "event_id": _NAMES,
    "revision": _NAMES,
    "user_id": _NAMES,
    "item_id": _NAMES,
    "event_type": (*_NAMES, BooleanType),
    "value": _NUMBERS,
    "weight": _NUMBERS,
    "propensity": _NUMBERS,
    "event_at": (StringType, NumericType, TimestampType, TimestampNTZType, DateType),
}


def refuse_missing(source: Source, mapping: Mapping[str, str], names: Sequence[str]) -> None:
    """Raise SourceRefused when the columns of the source lack one without which every record would be refused."""
    present = {name.lower() for name in names}
    needed = ["user_id", "item_id", "event_id", *(["event_at"] if source.order == "time" else [])]
    missing = [mapping[field] for field in needed if field in mapping and mapping[field].lower() not in present]
    if missing:
        what = f"{source.path} has no column {', '.join(missing)}; it has {', '.join(names)}."
        remedy = "Name the columns in source.columns (null where the source has none)."
        raise SourceRefused(what, remedy=remedy, path=source.path, wanted=missing, found=list(names))


def check_types(source: Source, mapping: Mapping[str, str], schema: StructType) -> None:
    """Raise SourceRefused for a column whose type cannot be read as its field without a loss."""
    types = {column.name.lower(): column.dataType for column in schema}
    for field, name in mapping.items():
        found = types.get(name.lower())
        if found is not None and not _allowed(field, found):
            what = f"Column {name} of {source.path} is {found.simpleString()} and cannot be read as {field}."
            wanted = " or ".join(kind.__name__.removesuffix("Type").lower() for kind in ALLOWED[field])
            facts = {"path": source.path, "wanted": wanted, "found": found.simpleString()}
            raise SourceRefused(what, remedy=f"Wanted: {wanted}.", **facts)
        if field == "event_at" and isinstance(found, NumericType) and source.time_unit == "text":
            what = f"Column {name} of {source.path} is a number and source.time_unit says text."
            remedy = "Set source.time_unit to s, ms or us."
            raise SourceRefused(what, remedy=remedy, path=source.path, wanted="s, ms or us", found="text")


def _allowed(field: str, found: DataType) -> bool:
    if isinstance(found, DecimalType) and ALLOWED[field] is _NAMES:
        return found.scale == 0
    return isinstance(found, ALLOWED[field])
