"""Features: what else is known of an event than user and item, as keys of rows.

    key(column, value) = xxhash64("column=value"), seed 42, as Spark's xxhash64 of that text

The text stands in `ids` under the id space `feature`, so every learned number of a feature has its name. A key is 0 where
the event has no value; a text that hashes to 0 is not told from that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from freshet.registry import pick


def natural_key(text: str) -> int:
    """int64 xxhash64 of a text's UTF-8 bytes, seed 42, as Spark's xxhash64."""
    value = xxhash.xxh64_intdigest(text.encode(), seed=42)
    return value - 2**64 if value >= 2**63 else value


def feature_keys(context: pa.ChunkedArray, names: Sequence[str]) -> np.ndarray:
    """int64[n, F]: the key of each named column of the events' contexts (map<string, string>, or null), 0 for none."""
    keys = np.zeros((len(context), len(names)), np.int64)
    for number, name in enumerate(names):
        # Hashed once for each value there is, not for each event.
        coded = pc.map_lookup(_plain(context), pa.scalar(name), "first").dictionary_encode()
        hashed = np.array([0, *(natural_key(f"{name}={value}") for value in coded.dictionary.to_pylist())], np.int64)
        keys[:, number] = hashed[pc.fill_null(coded.indices, -1).to_numpy() + 1]
    return keys


def given_context(context: Mapping[str, str], names: Sequence[str]) -> np.ndarray:
    """int64[F]: the keys of a context that somebody gave. Raises UnknownName for a column that is not among the names."""
    for column in context:
        pick("feature of the context", column, dict.fromkeys(names))
    return np.array([natural_key(f"{name}={context[name]}") if name in context else 0 for name in names], np.int64)


def feature_texts(context: pa.ChunkedArray, names: Sequence[str], rows: np.ndarray, columns: np.ndarray) -> pa.Array:
    """The text "column=value" behind the keys at these places of `feature_keys`."""
    parts = [pa.array([], pa.string())]
    order = [np.empty(0, np.int64)]
    for number, name in enumerate(names):
        at = np.flatnonzero(columns == number)
        values = pc.map_lookup(_plain(context).take(pa.array(rows[at])), pa.scalar(name), "first")
        parts.append(pc.binary_join_element_wise(name, values, "="))
        order.append(at)
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(order), kind="stable")))


def item_attributes(items: pa.Table, names: Sequence[str], most: int) -> tuple[np.ndarray, pa.Array, np.ndarray]:
    """(int64[n, most] keys of each item's attributes, 0 for none; the texts there are and their keys int64).

    items: columns category, title, attributes (map<string, string>). A name is one of the first two or a key of the third.
    Values stand with | between them, a title is its words; of more than `most` the first are taken, in the order of names.
    """
    found = [_values(items, name) for name in names]
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


def _values(items: pa.Table, name: str) -> tuple[np.ndarray, pa.Array]:
    """(item number, "name=value") of every value of one attribute, those of an item in their order, each once."""
    if name in ("category", "title"):
        column = items.column(name).combine_chunks()
    else:
        column = pc.map_lookup(_plain(items.column("attributes")), pa.scalar(name), "first")
    column = pc.utf8_lower(column) if name == "title" else column
    parts = pc.split_pattern_regex(column, r"\s+" if name == "title" else r"\|")
    values, item = pc.utf8_trim_whitespace(pc.list_flatten(parts)), pc.list_parent_indices(parts).to_numpy()
    texts = pc.binary_join_element_wise(name, values, "=")
    there = np.flatnonzero(pc.not_equal(values, "").to_numpy(zero_copy_only=False))
    pairs = item[there].astype(np.int64) << 32 | texts.take(pa.array(there)).dictionary_encode().indices.to_numpy()
    first = there[np.sort(np.unique(pairs, return_index=True)[1])]
    return item[first].astype(np.int64), texts.take(pa.array(first))


def _plain(context: pa.ChunkedArray) -> pa.Array:
    kind = pa.map_(pa.string(), pa.string())
    return context.combine_chunks().cast(kind) if context.type != kind else context.combine_chunks()
