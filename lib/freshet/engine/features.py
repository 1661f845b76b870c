"""Features: what else is known of an event than user and item, as keys of rows.

    key(column, value) = xxhash64("column=value"), seed 42, as Spark's xxhash64 of that text

A number of a column with edges is the bin it lies in: "price=0 to 10" from 0 to below 10. The text stands in `ids` under the
id space `feature` (of items: `attribute`), so every learned number of a feature has its name. A key is 0 where the event
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

from freshet.registry import pick


def natural_key(text: str) -> int:
    """int64 xxhash64 of a text's UTF-8 bytes, seed 42, as Spark's xxhash64."""
    value = xxhash.xxh64_intdigest(text.encode(), seed=42)
    return value - 2**64 if value >= 2**63 else value


class Features(Protocol):
    """The settings that say what is a feature: columns of a context, attributes of items and most of an item, edges."""

    @property
    def context(self) -> Sequence[str]: ...
    @property
    def items(self) -> Sequence[str]: ...
    @property
    def most(self) -> int: ...
    @property
    def bins(self) -> Mapping[str, Sequence[float]]: ...


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
    """(int64[n, most] keys of each item's attributes, 0 for none; the texts there are and their keys int64).

    items: columns category, title, attributes (map<string, string>). A name is one of the first two or a key of the third.
    Values stand with | between them, a title is its words; of more than `most` the first are taken, in the order of names.
    """
    most = features.most
    found = [_values(items, name, features) for name in features.items]
    rows = np.concatenate([np.empty(0, np.int64), *(at for at, _ in found)])
    coded = pa.concat_arrays([pa.array([], pa.string()), *(texts for _, texts in found)]).dictionary_encode()
    hashed = np.array([natural_key(text) for text in coded.dictionary.to_pylist()], np.int64)
    order = np.argsort(rows, kind="stable")
    rows, keys = rows[order], hashed[coded.indices.to_numpy()[order]] if len(order) else rows
    place = np.arange(len(rows)) - np.searchsorted(rows, rows)
    out = np.zeros((items.num_rows, most), np.int64)
    kept = place < most
    out[rows[kept], place[kept]] = keys[kept]
    return out, coded.dictionary, hashed


def _values(items: pa.Table, name: str, features: Features) -> tuple[np.ndarray, pa.Array]:
    """(item number, "name=value") of every value of one attribute, those of an item in their order, each once."""
    if name in ("category", "title"):
        column = items.column(name).combine_chunks()
    else:
        column = pc.map_lookup(_plain(items.column("attributes")), pa.scalar(name), "first")
    column = pc.utf8_lower(column) if name == "title" else column
    parts = pc.split_pattern_regex(column, r"\s+" if name == "title" else r"\|")
    values, item = pc.utf8_trim_whitespace(pc.list_flatten(parts)), pc.list_parent_indices(parts).to_numpy()
    texts = texts_of(name, values, features)
    there = np.flatnonzero(pc.not_equal(values, "").to_numpy(zero_copy_only=False))
    pairs = item[there].astype(np.int64) << 32 | texts.take(pa.array(there)).dictionary_encode().indices.to_numpy()
    first = there[np.sort(np.unique(pairs, return_index=True)[1])]
    return item[first].astype(np.int64), texts.take(pa.array(first))


def _plain(context: pa.ChunkedArray) -> pa.Array:
    return context.combine_chunks().cast(pa.map_(pa.string(), pa.string()))
