"""Counting what accounts do, one event after the other, against what they may in an hour."""

from __future__ import annotations

from freshet.kernels.compiled import IN_I4, OUT_I4, OUT_I8, boolean, compiled, int64, void

PASSED, BY_USER, BY_PAIR = range(3)


@compiled(void(IN_I4, IN_I4, OUT_I8, OUT_I8, int64, int64, boolean, OUT_I4))
def cap(user_ref, pair_ref, users, pairs, most_user, most_pair, refuse, out):  # type: ignore[no-untyped-def]
    """out int32[n] = PASSED, BY_USER or BY_PAIR of events in their order; users and pairs int64[r] are what there was of each
    before and count on, of those that passed: all, unless some are refused. Pairs count where the user has had most_pair; a
    pair_ref below 0 is an event that is one of its user alone."""
    for e in range(user_ref.shape[0]):
        u, p = user_ref[e], pair_ref[e]
        out[e] = PASSED
        if refuse and users[u] >= most_user:
            out[e] = BY_USER
        elif users[u] < most_pair or p < 0:
            users[u] += 1
        elif refuse and pairs[p] >= most_pair:
            out[e] = BY_PAIR
        else:
            users[u] += 1
            pairs[p] += 1
