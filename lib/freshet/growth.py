"""How fast learned rows grow: what runs away grows faster with every step, long before a norm cap or a list says so.

    growth = mean over the items' rows that a micro-batch changed of log(|vector after| / |vector before|)

Rows the head did not have, or that were 0, are left out, and so are counts, which grow as they should. Of the micro-batch's own
rows only, so it costs what the micro-batch costs, whatever the size of the model.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from freshet.head import Head
from freshet.models.contract import ITEM, Model, Rows
from freshet.report import Metric

GROWTH, LEARNED = "growth", "learned"  # metric and scoring


def growth_metric(model: Model, head: Head, changes: Mapping[str, tuple[Rows, np.ndarray]]) -> list[Metric]:
    """The growth that these changes of the head are; nothing where they change no row that grows."""
    found = [np.empty(0)]
    for block in model.blocks():
        if block.ids == ITEM and block.init_scale > 0.0 and block.name in changes:
            after, _ = changes[block.name]
            before, known = head.gather(block.name, after.keys)
            sizes = [np.linalg.norm(rows.values[known, : block.width].astype(np.float64), axis=1) for rows in (before, after)]
            there = (sizes[0] > 0.0) & (sizes[1] > 0.0)
            found.append(np.log(sizes[1][there] / sizes[0][there]))
    growth = np.concatenate(found)
    return [Metric(GROWTH, LEARNED, model.name, "all", float(growth.sum()), len(growth))] if len(growth) else []
