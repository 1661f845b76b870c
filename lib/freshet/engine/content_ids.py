"""Event ids for sources that have none: a hash of content, file and ordinal among equal records of that file (of a partition of
Kafka: the offset).

    s = mix(file_key ^ mix(ordinal))
    id = 32 hexadecimal digits of (mix(content_hash ^ s), mix(content_check ^ mix(s)))

Two equal purchases are two events, the same file read twice gives the same ids, and neither how a file was split nor
the order in which tasks ended matters.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from freshet.engine.hashing import long, mix, text32

_PAIRS = np.frombuffer("".join(f"{byte:02x}" for byte in range(256)).encode(), np.uint16)


def content_ids(
    content_hash: np.ndarray, content_check: np.ndarray, file_key: np.ndarray, ordinal: np.ndarray
) -> np.ndarray:
    """uint8[n, 32]: the text of each id. All in int64[n]; `ordinal` tells equal records of one file apart."""
    salt = mix(file_key.view(np.uint64) ^ mix(ordinal.view(np.uint64)))
    halves = [mix(content_hash.view(np.uint64) ^ salt), mix(content_check.view(np.uint64) ^ mix(salt))]
    raw = np.stack(halves, axis=1).byteswap().view(np.uint8)  # most significant byte first, as people write numbers
    return _PAIRS[raw].view(np.uint8).reshape(len(ordinal), 32)


def ordinals(
    content_hash: np.ndarray, content_check: np.ndarray, file_key: np.ndarray, position: np.ndarray
) -> np.ndarray:
    """int64[n]: how many equal records of the same file stand before each; `position` orders the records of one file."""
    order = np.lexsort((position, content_check, content_hash, file_key))
    same = np.ones(len(order), bool)
    for key in (content_check, content_hash, file_key):
        same[1:] &= key[order[1:]] == key[order[:-1]]
    same[:1] = False
    found = np.empty(len(order), np.int64)
    found[order] = count_in_groups(~same)
    return found


def count_in_groups(starts: np.ndarray) -> np.ndarray:
    """0, 1, 2, ... from each true of `starts` on: [T, F, F, T, F] -> [0, 1, 2, 0, 1]."""
    at = np.arange(len(starts))
    return at - np.maximum.accumulate(np.where(starts, at, 0))


def as_texts(ids: np.ndarray) -> pa.Array:
    """uint8[n, 32] -> an Arrow array of n texts, without a copy of the bytes."""
    ends = np.arange(0, 32 * (len(ids) + 1), 32, dtype=np.int32)
    return pa.StringArray.from_buffers(len(ids), pa.py_buffer(ends), pa.py_buffer(np.ascontiguousarray(ids)))


def keys(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """event_hash and dedup_key of the ids, as SQL would compute them."""
    event_hash = text32(np.ascontiguousarray(ids).view("<u8"))
    return event_hash, long(np.zeros_like(event_hash), event_hash)
