"""Merging by rules that one shard cannot pull as far as it likes: `contraction` of changes that were made alike first.

    clipped    d_p * min(1, 2 * median of the norms / |d_p|)
    trimmed    per coordinate without the floor(P / 4), at least one, largest and as many smallest of w_p d_p, and P times the mean
               of the others instead of their sum

P is the number of shards that touched the row, three or more; of fewer there is no middle, and both rules are `contraction`.
Only the vector is merged so, slots are not. After Karimireddy, He and Jaggi, "Learning from History for Byzantine Robust
Optimization", ICML 2021 (clipping), and Yin et al., "Byzantine-Robust Distributed Learning", ICML 2018 (trimmed mean).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_F4_2D, IN_F8, IN_I8, OUT_F4_2D, compiled, float64, int64, void

CLIP = 2.0  # times the median norm
_QUARTER = 4


@compiled(void(IN_I8, OUT_F4_2D, IN_F4_2D, IN_F8, IN_F8, float64, int64))
def _clipped(offsets, values, news, weight, factor, clip, width):  # type: ignore[no-untyped-def]
    """values float32[met, w] += what the entries news[offsets[r]:offsets[r + 1]] of each row r change, clipped."""
    for r in range(offsets.shape[0] - 1):
        start, several = offsets[r], offsets[r + 1] - offsets[r]
        norms = np.zeros(several)
        for p in range(several):
            for c in range(width):
                d = np.float64(news[start + p, c]) - np.float64(values[r, c])
                norms[p] += d * d
            norms[p] = np.sqrt(norms[p])
        limit = clip * np.median(norms)
        for c in range(width):
            total = 0.0
            for p in range(several):
                share = limit / norms[p] if norms[p] > limit else 1.0
                total += weight[start + p] * share * (np.float64(news[start + p, c]) - np.float64(values[r, c]))
            values[r, c] = np.float32(np.float64(values[r, c]) + factor[r] * total)


@compiled(void(IN_I8, OUT_F4_2D, IN_F4_2D, IN_F8, IN_F8, int64))
def _trimmed(offsets, values, news, weight, factor, width):  # type: ignore[no-untyped-def]
    """The same of what is left after the largest and the smallest changes of each coordinate are gone."""
    for r in range(offsets.shape[0] - 1):
        start, several = offsets[r], offsets[r + 1] - offsets[r]
        cut = max(several // _QUARTER, 1)
        changes = np.empty(several)
        for c in range(width):
            for p in range(several):
                changes[p] = weight[start + p] * (np.float64(news[start + p, c]) - np.float64(values[r, c]))
            changes.sort()
            if not np.isfinite(changes[0]) or not np.isfinite(changes[several - 1]):  # for the guard, which must see it
                values[r, c] = np.nan
                continue
            total = 0.0
            for p in range(cut, several - cut):
                total += changes[p]
            total *= several / (several - 2 * cut)
            values[r, c] = np.float32(np.float64(values[r, c]) + factor[r] * total)


def merge_vectors(
    trim: bool, values: npt.NDArray[np.float32], width: int, rows: Sequence[npt.NDArray[np.int32]],
    news: Sequence[npt.NDArray[np.float32]], weights: Sequence[npt.NDArray[np.float64]], factor: npt.NDArray[np.float64],
) -> None:
    """Change values float32[m, :width] in place: shard p says news[p] float32[k, w] of the rows[p] int32[k], its change counting
    weights[p] float64[k], and each row's sum factor float64[m]."""
    row = np.concatenate(rows)
    order = np.argsort(row, kind="stable")  # by row, then in the order of shards
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(values)))]).astype(np.int64)
    new = np.ascontiguousarray(np.concatenate(news)[order, :width])
    weight = np.concatenate(weights)[order]
    if trim:
        _trimmed(offsets, values, new, weight, factor, width)
    else:
        _clipped(offsets, values, new, weight, factor, CLIP, width)
