"""What a model must know after some micro-batches, in plain Python: no kernels, no shards, one event after the other. Arrays are
only what it is compared with; of the model itself it takes the settings that its name stands for (rates, cap, scale).

    admitted   not older than the clock less the window, not known already unless its revision is higher
    learned    mean += (v - mean) / n;  e = mean + b_u + b_i + p_u . q_i - v with the mean from before
               b -= rate e,  p_u -= rate (e q_i + l2 p_u),  q_i likewise with p_u from before,  both cut to the norm cap
    begins     a column c of a row of key k with s (H - 131070) / sqrt((2^32 - 1) / 3), the bias with 0; s the scale, H the sum of
               the four 16-bit parts of mix(mix(mix(seed ^ hash(block)) ^ k) + c golden), mix that of SplitMix64
    counted    per user the items he took, newest last; per item its positive events; corrections are learned and not counted
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import xxhash
from shell import SECOND, SETTINGS, WINDOW, Event

from freshet.head import Head
from freshet.models.contract import ITEM, USER
from freshet.models.mf import MatrixFactorization
from freshet.schema import HISTORY, POPULARITY

MODEL = MatrixFactorization(SETTINGS.model)
SEED = SETTINGS.model.seed
MASK, GOLDEN = 2**64 - 1, 0x9E3779B97F4A7C15
DEVIATION = math.sqrt((2**32 - 1) / 3)  # of the sum of four uniform 16-bit numbers


@cache
def key_of(text: str) -> int:
    """int64 key of a natural id."""
    found = hashed(text)
    return found - 2**64 if found >= 2**63 else found


def hashed(text: str) -> int:
    return xxhash.xxh64_intdigest(text.encode(), seed=42)


def mix(number: int) -> int:
    """One step of SplitMix64."""
    z = (number + GOLDEN) & MASK
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ z >> 27) * 0x94D049BB133111EB & MASK
    return z ^ z >> 31


@cache
def beginning(block: str, key: int) -> tuple[float, ...]:
    """What a row begins with: its bias, and its vector."""
    state = mix(mix(SEED ^ hashed(block)) ^ key & MASK)
    hashes = [mix(state + column * GOLDEN & MASK) for column in range(1, 1 + MODEL.factors)]
    sums = [sum(h >> bits & 0xFFFF for bits in (0, 16, 32, 48)) for h in hashes]
    return (0.0, *(MODEL.scale / DEVIATION * (lanes - 2 * 65535) for lanes in sums))


@dataclass
class Oracle:
    """State after the micro-batches that `learn` was given."""

    mean: float = 0.0
    learned: int = 0
    rows: dict[tuple[str, int], list[float]] = field(default_factory=dict)
    taken: dict[int, list[int]] = field(default_factory=dict)
    positives: dict[int, int] = field(default_factory=dict)
    known: dict[str, tuple[int, int]] = field(default_factory=dict)  # event -> its newest time and its revision
    clock: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("read", "accepted", "quarantined", "duplicate", "late"), 0))

    def learn(self, events: Sequence[Event], arrived: Sequence[int]) -> None:
        """One micro-batch; `arrived` in seconds, one time an event."""
        told = sorted(zip(events, arrived, strict=True), key=lambda one: (one[0].at, key_of(one[0].id), one[0].revision))
        self.counts["read"] += len(told)
        oldest, accepted = self.clock - WINDOW, []
        timely = [one for one in told if not one[0].broken and one[0].at >= oldest]
        self.counts["quarantined"] += sum(event.broken for event, _ in told)
        self.counts["late"] += sum(not event.broken and event.at < oldest for event, _ in told)
        for event, at in timely:
            same = [one for one, _ in timely if one.id == event.id]
            if event is not min(same, key=_first) or event.revision <= self._before(event.id, oldest):
                self.counts["duplicate"] += 1
            else:
                accepted.append((event, at))
        self.counts["accepted"] += len(accepted)
        for event, _ in accepted:
            self._learn(event, self._before(event.id, oldest) >= 0)
        for event, at in accepted:
            newest, _ = self.known.get(event.id, (event.at, 0))
            self.known[event.id] = (max(newest, event.at) if self._before(event.id, oldest) >= 0 else event.at, event.revision)
            self.clock = max(self.clock, min(event.at, at))

    def _before(self, event: str, oldest: int) -> int:
        """The accepted revision of an event that is remembered, -1 of others."""
        at, revision = self.known.get(event, (oldest - 1, -1))
        return revision if at >= oldest else -1

    def _learn(self, event: Event, corrects: bool) -> None:
        user, item = (self._row(USER, event.user), self._row(ITEM, event.item))
        error = self.mean + user[0] + item[0] + sum(a * b for a, b in zip(user[1:], item[1:], strict=True)) - event.value
        self.learned += 1
        self.mean += (event.value - self.mean) / self.learned
        p, q = user[1:], item[1:]
        for row, own, other in ((user, p, q), (item, q, p)):
            row[0] -= MODEL.bias_step.rate * (error + MODEL.bias_step.l2 * row[0])
            row[1:] = [a - MODEL.step.rate * (error * b + MODEL.step.l2 * a) for a, b in zip(own, other, strict=True)]
            norm = math.sqrt(sum(a * a for a in row[1:]))
            if norm > MODEL.limit:
                row[1:] = [a * MODEL.limit / norm for a in row[1:]]
        if not corrects:
            self.taken.setdefault(key_of(event.user), []).append(key_of(event.item))
        if not corrects and event.value >= SETTINGS.model.positive_from:
            self.positives[key_of(event.item)] = self.positives.get(key_of(event.item), 0) + 1

    def _row(self, block: str, text: str) -> list[float]:
        """The row of an id; a new one starts where its key says."""
        place = (block, key_of(text))
        if place not in self.rows:
            self.rows[place] = list(beginning(*place))
        return self.rows[place]

    def differs(self, head: Head) -> list[str]:
        """In what a head is not what it must be."""
        found = []
        for block in (USER, ITEM):
            keys = sorted(key for name, key in self.rows if name == block)
            rows, known = head.gather(block, np.array(keys, np.int64))
            wanted = np.array([self.rows[block, key] for key in keys]).reshape(len(keys), 1 + MODEL.factors)
            if not known.all() or len(head.tables[block]) != len(keys):
                found.append(f"{len(head.tables[block])} rows of {block}, wanted {len(keys)}")
            elif not np.allclose(rows.values[:, : 1 + MODEL.factors], wanted, rtol=1e-5, atol=1e-5):
                found.append(f"rows of {block} by {np.abs(rows.values[:, : 1 + MODEL.factors] - wanted).max():.2g}")
        positives = dict(zip(head.tables[POPULARITY].keys.tolist(), head.tables[POPULARITY].column("count").tolist(), strict=True))
        if {key: count for key, count in positives.items() if count} != self.positives:
            found.append("positive events of items")
        for user, items in self.taken.items():
            rows, _ = head.gather(HISTORY, np.array([user]))
            mine = rows.links[0, : rows.filled[0]].tolist()
            if items[-len(mine) :] != mine or rows.count[0] < len(items):
                found.append(f"history of user {user}: {mine}, wanted {items}")
        if head.clock != self.clock * SECOND:
            found.append(f"clock {head.clock}, wanted {self.clock * SECOND}")
        return found


def _first(event: Event) -> tuple[object, ...]:
    """Of several records of one event in a micro-batch the least of these is taken."""
    return (-event.revision, event.at, key_of(event.user), key_of(event.item), event.value)
