"""JSON lines: one object per line, every wanted field as text.

`[` + line + `]` is parsed as an array of objects: it has exactly one element, and ends where the line ends, if and only
if the line is one whole object. Spark's parser alone takes `{"a":1} {"b":2}` and `{"a":1} rubbish` for `{"a":1}`.

Policy: of a key given twice the last counts. Numbers keep their digits where they are whole; NaN and 1e999 come through
as such and are refused as values. Refused as unreadable: anything but one object, single quotes, an unpaired surrogate
(Java turns each into `?`, so that two ids would become one), an id written as a number with a fraction or an exponent
(it would be rounded), a line above MAX_LINE_BYTES. A mark of byte order is skipped at the start of a file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import ArrayType, StringType, StructField, StructType

from freshet.engine.places import FILE_PLACE, Place, place

# Longer lines are not parsed: a parser's memory is a multiple of its input.
MAX_LINE_BYTES = 1 << 20

_OPTIONS = {"mode": "PERMISSIVE", "allowSingleQuotes": "false"}
_BLANK = " \t\r"
# How the parser hands out NaN and what overflows, quotes and all.
_NOT_A_NUMBER = ('"NaN"', '"Infinity"', '"-Infinity"')
_UNPAIRED = r"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"


def parse(
    lines: DataFrame, names: Sequence[str], mapping: Mapping[str, str], where: Place = FILE_PLACE, blank: bool = False
) -> DataFrame:
    """Text lines -> columns `names` as text, `_raw`, `_unreadable`, and where each stood; with `blank` a blank one is a record."""
    shape = ArrayType(StructType([StructField(name, StringType()) for name in names]))
    line = F.col("value")
    array = F.from_json(F.concat(F.lit("["), line, F.lit("]")), shape, _OPTIONS)
    kept = lines if blank else lines.where(F.startswith(line, F.lit("{")) | (F.btrim(line, F.lit(_BLANK)) != ""))
    parsed = kept.select(
        line.alias("_raw"), *place(where), F.when(F.octet_length(line) <= MAX_LINE_BYTES, array).alias("_array")
    )
    record = F.get(F.col("_array"), F.lit(0))
    ids = [name for field, name in mapping.items() if field in ("event_id", "user_id", "item_id")]
    fields = {name: _without_nan(record.getField(name)) if name in ids else record.getField(name) for name in names}
    raw = F.col("_raw")
    whole = F.coalesce((F.size("_array") == 1) & record.isNotNull(), F.lit(False))
    broken = ~whole | ~_ends(raw) | _unpaired(raw)
    for name in ids:
        broken = broken | F.coalesce(_rounded(record.getField(name), raw), F.lit(False))
    read = [field.alias(name) for name, field in fields.items()]
    return parsed.select(*read, "_raw", *where, broken.alias("_unreadable"))


def _ends(raw: Column) -> Column:
    # The short question first: trimming more than blanks takes a line apart.
    return F.endswith(raw, F.lit("}")) | F.endswith(F.rtrim(raw, F.lit(_BLANK)), F.lit("}"))


def _without_nan(value: Column) -> Column:
    """Null for an id that was written as NaN: a missing id, as pandas writes it, and not an id called NaN."""
    return F.when(~value.isin(*_NOT_A_NUMBER), value)


def _unpaired(raw: Column) -> Column:
    return F.contains(raw, F.lit("\\u")) & F.rlike(raw, F.lit(_UNPAIRED))


def _rounded(value: Column, raw: Column) -> Column:
    """The id reads as a fraction and does not stand between quotes in the line."""
    quoted = F.contains(raw, F.concat(F.lit('"'), value, F.lit('"')))
    return F.contains(value, F.lit(".")) & value.try_cast("double").isNotNull() & ~quoted
