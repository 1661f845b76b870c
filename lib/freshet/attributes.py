"""What is known of items beside their events: the attributes of an item as links, and the item itself before its first event."""

from __future__ import annotations

import numpy as np

from freshet.head import Head
from freshet.models.contract import Rows
from freshet.schema import ITEM_ATTRIBUTES, POPULARITY


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
