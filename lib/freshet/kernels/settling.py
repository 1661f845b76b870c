"""Rows of `ftrl` through a merge: what is merged is what their weights are made of.

    s = x - v / (h + l2)                     h = sqrt(n + epsilon) / rate, of the merged n in every shard's s
    v = -sign(x) l1, z where x is 0          what is left of z for the threshold, within l1 of 0
    x = sign(s) max(|s| - l1 / (h + l2), 0)  z = -s (h + l2)

n is merged as any accumulator, s as any weight (where l1 is 0 it is x); then x and z follow. Sums of the changes of z would
not do: z stands in units of h, which grows with the root of n (docs/decisions/0013-optimizer-state.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from freshet.kernels.optimizers import FTRL, Group


def follows(groups: Sequence[Group]) -> bool:
    """Whether some of the weights follow from slots."""
    return any(group.step.code == FTRL for group in groups)


def unsettled(values: np.ndarray, merged: np.ndarray, groups: Sequence[Group]) -> np.ndarray:
    """float32[r, w]: a copy of the rows with s in the place of x; `merged` are the same rows with their merged n."""
    out = values.copy()
    for group, own, h in _of_ftrl(merged, groups):
        x, z = (values[:, at : at + group.width].astype(np.float64) for at in (group.start, group.slot))
        out[:, own] = x - np.where(x == 0.0, z, -np.sign(x) * group.step.l1) / h
    return out


def settle(merged: np.ndarray, groups: Sequence[Group]) -> None:
    """Turn s into x, in place, and set z."""
    for group, own, h in _of_ftrl(merged, groups):
        s = merged[:, own].astype(np.float64)
        merged[:, group.slot : group.slot + group.width] = -s * h
        merged[:, own] = np.sign(s) * np.maximum(np.abs(s) - group.step.l1 / h, 0.0)


def _of_ftrl(values: np.ndarray, groups: Sequence[Group]) -> Iterator[tuple[Group, slice, np.ndarray]]:
    """(group, columns of its x, h + l2 float64[r, width or 1]) of each group of ftrl."""
    for group in groups:
        if group.step.code == FTRL:
            squares, step = group.slot + group.width, group.step
            n = values[:, squares : squares + (group.width if step.coordinates else 1)].astype(np.float64)
            yield group, slice(group.start, group.start + group.width), np.sqrt(n + step.epsilon) / step.rate + step.l2
