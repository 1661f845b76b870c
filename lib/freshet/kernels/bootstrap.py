"""Sums over users, drawn again and again: the Poisson bootstrap by user.

    resampled_b = sum_u w_bu * sums_u           w_bu ~ Poisson(1) from the hash of (seed, user key, b)

A user is drawn with all of his events, so what he has in common with himself does not pass for evidence. Weights come from
keys: the order of the users, and who stands beside them, change nothing. Chamandy et al., "Estimating uncertainty for massive data
streams", Google 2012; by clusters as in Davison and Hinkley, "Bootstrap methods", 1997, section 3.8.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from freshet.kernels.compiled import IN_BOOL, IN_F8_2D, IN_I4, IN_U8, OUT_F8_2D, compiled, int64, uint64, void
from freshet.kernels.seeds import mix

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = math.exp(-1.0)  # probability of 0
_UNIT = 2.0**-53
_11 = np.uint64(11)


@compiled(int64(uint64))
def _poisson(hashed):  # type: ignore[no-untyped-def]
    """The number whose cumulative probability of Poisson(1) first exceeds the hash as a number of [0, 1)."""
    u = np.float64(np.int64(hashed >> _11)) * _UNIT
    probability, number = _FIRST, 0
    below = probability
    while u >= below and number < 20:
        number += 1
        probability /= number
        below += probability
    return number


@compiled(void(IN_F8_2D, IN_U8, OUT_F8_2D))
def _sums(sums, states, out):  # type: ignore[no-untyped-def]
    out[:] = 0.0
    for u in range(sums.shape[0]):
        for b in range(out.shape[0]):
            w = _poisson(mix(states[u] + np.uint64(b) * _GOLDEN))
            if w:
                for c in range(sums.shape[1]):
                    out[b, c] += w * sums[u, c]


@compiled(void(IN_I4, IN_BOOL, IN_BOOL, IN_U8, OUT_F8_2D))
def _pairs(user, positive, first, states, out):  # type: ignore[no-untyped-def]
    weight = np.empty(states.shape[0], np.int64)
    for b in range(out.shape[0]):
        for u in range(states.shape[0]):
            weight[u] = _poisson(mix(states[u] + np.uint64(b) * _GOLDEN))
        won, positives, below, level_positives, level_negatives = 0.0, 0.0, 0.0, 0.0, 0.0
        for e in range(user.shape[0]):
            if first[e]:
                won += level_positives * (below + 0.5 * level_negatives)
                positives += level_positives
                below += level_negatives
                level_positives, level_negatives = 0.0, 0.0
            if positive[e]:
                level_positives += weight[user[e]]
            else:
                level_negatives += weight[user[e]]
        won += level_positives * (below + 0.5 * level_negatives)
        out[b, 0], out[b, 1] = won, (positives + level_positives) * (below + level_negatives)


def states_of(users: npt.NDArray[np.int64], seed: int) -> npt.NDArray[np.uint64]:
    """uint64[u]: what the weights of each user key are drawn from."""
    found: npt.NDArray[np.uint64] = mix(mix(np.uint64(seed)) ^ users.view(np.uint64))
    return found


def resampled(sums: npt.NDArray[np.float64], states: npt.NDArray[np.uint64], times: int) -> npt.NDArray[np.float64]:
    """float64[times, c]: the sums over users of sums float64[u, c], each user as often as he was drawn."""
    out = np.empty((times, sums.shape[1]))
    _sums(np.ascontiguousarray(sums, np.float64), states, out)
    return out


def resampled_pairs(
    score: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_], user: npt.NDArray[np.int32],
    states: npt.NDArray[np.uint64], times: int,
) -> npt.NDArray[np.float64]:
    """float64[times, 2]: (pairs won, pairs), as kernels.ranking.pairs_won counts them, of events of the users drawn.

    score float64[n], positive bool[n], user int32[n] in `states`.
    """
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    first = np.ones(len(order), bool)
    first[1:] = ordered[1:] != ordered[:-1]
    out = np.empty((times, 2))
    _pairs(np.ascontiguousarray(user[order], np.int32), positive[order], first, states, out)
    return out
