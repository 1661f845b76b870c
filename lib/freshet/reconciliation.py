"""How far the rows of two models of the same events lie apart: the online one and a batch candidate.

    distance = |a - b|        relative = |a - b| / max(|a|, |b|)        cosine = a . b / (|a| |b|)

a and b the vectors (biases with them, slots not) of one row in either. Rows begin alike in both, drawn from their keys, so
vectors of the same place are compared; yet factors may turn together without any score changing, so a far row is a question
and not a fault: ask first where biases moved.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from freshet.head import Head


@dataclass(frozen=True)
class Distances:
    """Rows of one block that both have: int64[n] keys, float64[n] distance, relative distance (0 where both are zeros), cosine
    (NaN where either is zeros) and change of the first coordinate (the bias where the block has one); int64[n] events behind the
    row in either; and how many rows only one of them has."""

    block: str
    keys: np.ndarray
    distance: np.ndarray
    relative: np.ndarray
    cosine: np.ndarray
    first: np.ndarray
    counts: tuple[np.ndarray, np.ndarray]
    only: tuple[int, int]

    def summary(self) -> dict[str, float | int | None]:
        """Rows in both and in one alone; median and 90th percentile of the relative distance, median cosine; None without rows."""
        relative = np.quantile(self.relative, [0.5, 0.9]).tolist() if len(self.keys) else [None, None]
        cosine = self.cosine[np.isfinite(self.cosine)]
        return {
            "rows": len(self.keys), "only_online": self.only[0], "only_batch": self.only[1], "relative_median": relative[0],
            "relative_p90": relative[1], "cosine_median": float(np.median(cosine)) if len(cosine) else None,
        }


def distances(online: Head, batch: Head, blocks: Iterable[str]) -> list[Distances]:
    """Of each of these blocks, rows in the order of their keys."""
    found = []
    for name in sorted(blocks):
        keys = [np.sort(head.tables[name].keys) for head in (online, batch)]
        both = np.intersect1d(keys[0], keys[1], assume_unique=True)
        rows = [head.gather(name, both)[0] for head in (online, batch)]
        a, b = (one.values[:, : online.blocks[name].width].astype(np.float64) for one in rows)
        lengths = np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1)
        distance, longest, product = np.linalg.norm(a - b, axis=1), np.maximum(*lengths), lengths[0] * lengths[1]
        found.append(Distances(
            name, both, distance, np.divide(distance, longest, out=np.zeros(len(both)), where=longest > 0),
            np.divide((a * b).sum(axis=1), product, out=np.full(len(both), np.nan), where=product > 0),
            (b - a)[:, 0] if a.shape[1] else np.zeros(len(both)), (rows[0].count, rows[1].count),
            (len(keys[0]) - len(both), len(keys[1]) - len(both)),
        ))
    return found
