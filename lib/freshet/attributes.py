"""What is known of items beside their events: the attributes of an item as links, and the item itself before its first event.

A ready-made vector v of an item becomes attributes too, one of each of TABLES tables: the cell of v, which is the sides of BITS
random planes that v is on,

    cell = sum_b 2^b [v . plane_b > 0]        two vectors at angle a are on one side of a plane with chance 1 - a / pi

so alike items share cells, what clicks on one teach is known of the others, and a new item has what those around it learned.
Charikar, Similarity estimation techniques from rounding algorithms, STOC 2002.
"""

from __future__ import annotations

import numpy as np

from freshet.head import Head
from freshet.kernels.seeds import initial_rows
from freshet.models.contract import Rows
from freshet.schema import ITEM_ATTRIBUTES, POPULARITY

TABLES, BITS = 8, 4


def describe(head: Head, items: np.ndarray, attributes: np.ndarray) -> tuple[dict[str, tuple[Rows, np.ndarray]], int]:
    """What changes (see Head.changes) when items int64[n], each once, have the attributes int64[n, A], 0 for none, from now on.

    An item nobody has met gets a row of `popularity` that counts nothing: it can be ranked from now on.
    """
    before, known = head.gather(ITEM_ATTRIBUTES, items)
    filled = (attributes != 0).sum(axis=1).astype(np.int32)
    order = np.argsort(attributes == 0, axis=1, kind="stable")  # links stand at the front
    links = np.take_along_axis(attributes, order, axis=1)
    at = np.flatnonzero((before.links != links).any(axis=1) | (~known & (filled > 0)))
    new, _ = head.gather(POPULARITY, items[head.lookup(POPULARITY, items) < 0])
    changed = Rows(items[at], before.values[at], links[at], filled[at], before.count[at] + 1, before.last_at[at])
    return head.changes({ITEM_ATTRIBUTES: changed, POPULARITY: new})


def cells(vectors: np.ndarray, seed: int) -> np.ndarray:
    """int64[n, TABLES]: the cell of each of vectors float64[n, D] in each table; a vector is as one with zeros after it."""
    planes = np.empty((vectors.shape[1], TABLES * BITS), np.float32)
    initial_rows(np.arange(vectors.shape[1]), planes, 1.0, seed)
    # Summed in one order on every machine, which a product of matrices is not.
    sides = np.einsum("nd,dp->np", vectors, planes.astype(np.float64)) > 0.0
    return np.asarray(sides.reshape(len(vectors), TABLES, BITS) @ (1 << np.arange(BITS)))
