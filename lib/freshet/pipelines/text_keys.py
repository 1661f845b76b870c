"""Keys of texts in columns of Arrow: the numbers that Spark's xxhash64 gives them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from freshet.kernels.digest import SPARK_SEED
from freshet.kernels.texts import number_seed, text_hashes, then_long
from freshet.schema import CHECK_SEED


def hashed(texts: pa.ChunkedArray, seed: int = SPARK_SEED) -> np.ndarray:
    """int64[n] of a column of strings without nulls."""
    found = [_of_chunk(chunk, seed) for chunk in texts.chunks]
    return np.concatenate(found) if found else np.empty(0, np.int64)


def checks(ids: pa.ChunkedArray) -> np.ndarray:
    """int64[n], the second hash of natural ids."""
    return hashed(ids, number_seed(CHECK_SEED))


def dedup_keys(event_ids: pa.ChunkedArray) -> np.ndarray:
    """int64[n], one key for all revisions of an event: that of revision 0, whichever it is."""
    return then_long(hashed(event_ids), 0)


def _of_chunk(chunk: pa.Array, seed: int) -> np.ndarray:
    wide = chunk.cast(pa.large_string())
    _, offsets, data = wide.buffers()
    if not len(wide):
        return np.empty(0, np.int64)
    at = np.frombuffer(offsets, np.int64)[wide.offset : wide.offset + len(wide) + 1]
    return text_hashes(at, np.frombuffer(data, np.uint8) if data is not None and data.size else np.zeros(1, np.uint8), seed)
