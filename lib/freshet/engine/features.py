"""Features: what else is known of an event than user and item, as keys of rows.

    key(column, value) = xxhash64("column=value"), seed 42, as Spark's xxhash64 of that text

A number of a column with edges is the bin it lies in: "price=0 to 10" from 0 to below 10. The text stands in `ids` under the
id space `feature` (of items: `attribute`), so every learned number of a feature has its name. A vector of an item is one value
for each table of freshet.attributes: "image 3=0110", its cell in table 3. A key is 0 where the event
has no value; a text that hashes to 0 is not told from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from freshet.attributes import BITS, TABLES, cells
from freshet.registry import pick

_NUMBER, _COMMA = r"-?[0-9]{1,40}(?:\.[0-9]{1,40})?(?:[eE][-+]?[0-9]{1,2})?", r"\s*,\s*"


def natural_key(text: str) -> int:
    """int64 xxhash64 of a text's UTF-8 bytes, seed 42, as Spark's xxhash64."""
    value = xxhash.xxh64_intdigest(text.encode(), seed=42)
    return value - 2**64 if value >= 2**63 else value


class Features(Protocol):
    """The settings that say what is a feature: columns of a context, attributes of items and most of an item, edges, which
    attributes are vectors."""

    @property
    def context(self) -> Sequence[str]: ...
    @property
    def items(self) -> Sequence[str]: ...
    @property
    def most(self) -> int: ...
    @property
    def bins(self) -> Mapping[str, Sequence[float]]: ...
    @property
    def vectors(self) -> Sequence[str]: ...


def texts_of(name: str, values: pa.Array, features: Features) -> pa.Array:
    """The text "name=value" of each value (text, or null), or of the bin it lies in; what is no number is its own bin."""
    edges = features.bins.get(name)
    if edges is None:
        return pc.binary_join_element_wise(name, values, "=")
    between = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    words = pa.array([f"below {edges[0]:g}", *between, f"from {edges[-1]:g}"])
    numbers = pd.to_numeric(values.to_pandas(), errors="coerce").to_numpy(np.float64)
    place = np.searchsorted(np.array(edges), numbers, side="right")
    binned = words.take(pa.array(np.where(np.isnan(numbers), 0, place)))
    return pc.binary_join_element_wise(name, pc.if_else(pa.array(np.isnan(numbers)), values, binned), "=")


def feature_keys(context: pa.ChunkedArray, features: Features) -> np.ndarray:
    """int64[n, F]: the key of each named column of the events' contexts (map<string, string>, or null), 0 for none."""
    keys = np.zeros((len(context), len(features.context)), np.int64)
    for number, name in enumerate(features.context):
        values = pc.map_lookup(_plain(context), pa.scalar(name), "first")
        # Hashed once for each text there is, not for each event.
        coded = texts_of(name, values, features).dictionary_encode()
        hashed = np.array([0, *map(natural_key, coded.dictionary.to_pylist())], np.int64)
        keys[:, number] = hashed[pc.fill_null(coded.indices, -1).to_numpy() + 1]
    return keys


def given_context(context: Mapping[str, str], features: Features) -> np.ndarray:
    """int64[F]: the keys of a context that somebody gave. Raises UnknownName for a column that is no feature."""
    for column in context:
        pick("feature of the context", column, dict.fromkeys(features.context))
    given = pa.chunked_array([pa.array([list(context.items())], pa.map_(pa.string(), pa.string()))])
    return np.asarray(feature_keys(given, features)[0])


def feature_texts(context: pa.ChunkedArray, features: Features, rows: np.ndarray, columns: np.ndarray) -> pa.Array:
    """The text behind the keys at these places of `feature_keys`."""
    parts = [pa.array([], pa.string())]
    order = [np.empty(0, np.int64)]
    for number, name in enumerate(features.context):
        at = np.flatnonzero(columns == number)
        values = pc.map_lookup(_plain(context).take(pa.array(rows[at])), pa.scalar(name), "first")
        parts.append(texts_of(name, values, features))
        order.append(at)
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))


def item_attributes(items: pa.Table, features: Features) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """(int64[n, attribute_places] keys of each item's attributes, 0 for none; the texts there are and their keys int64).

    items: columns category, title, attributes (map<string, string>). A name is one of the first two or a key of the third.
    Values stand with | between them, a title is its words; of more than `most` the first are taken, in the order of names.
    Those of vectors stand behind them.
    """
    most = features.most
    found = [_values(items, name, features) for name in features.items if name not in features.vectors]
    in_cells = [_cells(items, name) for name in features.vectors]
    coded = pa.concat_arrays([pa.array([], pa.string()), *(texts for _, texts in (*found, *in_cells))]).dictionary_encode()
    hashed = np.array([natural_key(text) for text in coded.dictionary.to_pylist()], np.int64)
    every = hashed[coded.indices.to_numpy()]
    rows = np.concatenate([np.empty(0, np.int64), *(at for at, _ in found)])
    order = np.argsort(rows, kind="stable")
    rows, keys = rows[order], every[order]
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    out = np.zeros((items.num_rows, attribute_places(features)), np.int64)
    kept = place < most
    out[rows[kept], place[kept]] = keys[kept]
    start = len(rows)
    for number, (at, texts) in enumerate(in_cells):
        out[at, most + number * TABLES : most + (number + 1) * TABLES] = every[start : start + len(texts)].reshape(-1, TABLES)
        start += len(texts)
    return out, coded.dictionary, hashed


def attribute_places(features: Features) -> int:
    """Most attributes of an item, those of its vectors included."""
    return features.most + TABLES * len(features.vectors)


def _cells(items: pa.Table, name: str) -> tuple[np.ndarray, pa.Array]:
    """(item numbers, "name table=cell" of each table, item by item) of an attribute that is a vector.

    A vector is numbers with commas between them, in brackets or not, as JSON writes them; a text that is anything else, or all
    zeros, is none.
    """
    column = pc.utf8_trim(_attribute(items, name), characters=" []\t\n")
    there = pc.match_substring_regex(column, f"^{_NUMBER}({_COMMA}{_NUMBER})*$").fill_null(False)
    at = np.flatnonzero(there.to_numpy(zero_copy_only=False))
    parts = pc.split_pattern_regex(column.take(pa.array(at)), _COMMA)
    item = pc.list_parent_indices(parts).to_numpy()
    place = np.arange(len(item)) - np.searchsorted(item, item)
    vectors = np.zeros((len(at), place.max(initial=-1) + 1))
    vectors[item, place] = pc.list_flatten(parts).cast(pa.float64()).to_numpy()
    some = np.flatnonzero(vectors.any(axis=1))
    texts = pa.array([f"{name} {table}={cell:0{BITS}b}" for table in range(TABLES) for cell in range(2**BITS)])
    numbers = cells(vectors[some], natural_key(name)) + (np.arange(TABLES) << BITS)
    return at[some], texts.take(pa.array(numbers.ravel()))


def _values(items: pa.Table, name: str, features: Features) -> tuple[np.ndarray, pa.Array]:
    """(item number, "name=value") of every value of one attribute, those of an item in their order, each once."""
    column = _attribute(items, name)
    column = pc.utf8_lower(column) if name == "title" else column
    parts = pc.split_pattern_regex(column, r"\s+" if name == "title" else r"\|")
    values, item = pc.utf8_trim_whitespace(pc.list_flatten(parts)), pc.list_parent_indices(parts).to_numpy()
    texts = texts_of(name, values, features)
    there = np.flatnonzero(pc.not_equal(values, "").to_numpy(zero_copy_only=False))
    pairs = item[there].astype(np.int64) << 32 | texts.take(pa.array(there)).dictionary_encode().indices.to_numpy()
    first = there[np.sort(np.unique(pairs, return_index=True)[1])]
    return item[first].astype(np.int64), texts.take(pa.array(first))


def _attribute(items: pa.Table, name: str) -> pa.Array:
    if name in ("category", "title"):
        return items.column(name).combine_chunks()
    return pc.map_lookup(_plain(items.column("attributes")), pa.scalar(name), "first")


def _plain(context: pa.ChunkedArray) -> pa.Array:
    return context.combine_chunks().cast(pa.map_(pa.string(), pa.string()))
