"""What a model is to the rest of Freshet.

A model names its blocks, says which rows each event touches (`examples`), scores examples without changing anything
and learns a shard of examples one after the other on private copies of the rows. It never sees Spark, Delta, a clock or
another shard. Everything a model knows is rows of its blocks, so snapshots, replay and SQL come for free.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from freshet.kernels.optimizers import Group

USER, ITEM, FEATURE, ATTRIBUTE = "user", "item", "feature", "attribute"  # id spaces
MOST_RECENT = 16  # a user's newest items that are at hand for every event


@dataclass(frozen=True)
class Block:
    """A named table of parameters: rows float32 [vector | slots] and int64 links, under int64 keys.

    `ids` is the id space its keys come from (None: keys of its own). `merge` names a merge rule of kernels.merge.
    New rows get a normal vector of standard deviation `init_scale` from the hash of their key; the first `zeros`
    columns (biases) start at 0. `groups` are the coordinates that an optimizer moves, with their slots;
    slots of no group are merged as squared residuals, or summed where `slots_add`.
    """

    name: str
    ids: str | None
    width: int
    slots: int = 0
    links: int = 0
    merge: str = "contraction"
    init_scale: float = 0.0
    zeros: int = 0
    groups: tuple[Group, ...] = ()
    slots_add: bool = False


@dataclass(frozen=True)
class Events:
    """Accepted events of a micro-batch in canonical order (event_at, event_hash, revision); arrays of one length.

    `event_at` in microseconds since 1970 UTC; `event_hash` xxhash64 of the event id; `features` the keys of the event's
    context, one column for each name in `model.features.context`, 0 where the event has none (see engine.features). `corrects`: the
    event was learned before with another value; it is learned with this one and counted no more.
    """

    user_key: np.ndarray  # int64
    item_key: np.ndarray  # int64
    value: np.ndarray  # float64
    weight: np.ndarray  # float64
    event_at: np.ndarray  # int64
    event_hash: np.ndarray  # int64
    features: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.int64))  # int64[n, F]
    propensity: np.ndarray = field(default_factory=lambda: np.empty(0))  # float64, NaN where none was logged
    corrects: np.ndarray = field(default_factory=lambda: np.empty(0, bool))  # bool

    def __post_init__(self) -> None:
        if not self.features.shape[1]:
            object.__setattr__(self, "features", np.empty((len(self.user_key), 0), np.int64))
        if not len(self.propensity):
            object.__setattr__(self, "propensity", np.full(len(self.user_key), np.nan))
        if not len(self.corrects):
            object.__setattr__(self, "corrects", np.zeros(len(self.user_key), bool))

    def __len__(self) -> int:
        return len(self.user_key)


@dataclass(frozen=True)
class Examples:
    """What the model sees of the events: example e comes from event `event[e]`, in the events' order.

    `keys[block]` int64[n, m] are the rows it touches, `present[block]` bool[n, m] says which of them exist (absent:
    all). `target` and `weight` float32[n]. `draws` uint64[n]: the seed of what is left to chance in learning each of them,
    from the event's id; `offset` float32[n, m]: what stands in their scores besides what is learned. Both may be empty.
    """

    event: np.ndarray
    keys: Mapping[str, np.ndarray]
    target: np.ndarray
    weight: np.ndarray
    present: Mapping[str, np.ndarray] = field(default_factory=dict)
    draws: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    offset: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.event)


@dataclass(frozen=True)
class ShardTask:
    """Examples of one shard and the rows they touch: everything `learn` needs, and nothing else.

    `rows[block]` float32[r, width + slots] are private copies, `counts[block]` int64[r] the events behind each of them,
    `refs[block]` int32[n, m] the row of each touch (-1: none), `draws` and `offset` as in Examples. `trust` float32[n], of no
    length where it is 1: how far each example may move rows that users share, 0 to 1, beside the full step of its user's own.
    """

    rows: dict[str, np.ndarray]
    counts: dict[str, np.ndarray]
    refs: dict[str, np.ndarray]
    target: np.ndarray
    weight: np.ndarray
    draws: np.ndarray = field(default_factory=lambda: np.empty(0, np.uint64))
    offset: np.ndarray = field(default_factory=lambda: np.empty((0, 0), np.float32))
    trust: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))


@dataclass(frozen=True)
class ShardResult:
    """What a shard learned: its private rows afterwards, per row the contraction (float64) and the events that touched
    it (int64); per example the score just before it was learned, its loss (float64, NaN: none) and the summed lengths of the
    steps it made on rows that users share (float64; with an accumulator for each coordinate by their mean step); rows cut to the
    norm cap."""

    rows: dict[str, np.ndarray]
    contraction: dict[str, np.ndarray]
    touched: dict[str, np.ndarray]
    prediction: np.ndarray
    loss: np.ndarray
    capped: int
    moved: np.ndarray


@dataclass(frozen=True)
class Context:
    """What could be known at each of n events, from those before it: negative item keys int64[n, c] and whether each
    could be drawn (bool, same shape); the user's newest items int64[n, r], newest first, and how many there are int32[n];
    and what is known of items: `attributes` turns their keys int64[...] into those of their attributes int64[..., A], 0 for
    none. `gather` and `clock` (microseconds) are those of the snapshot before the first event.
    """

    negatives: np.ndarray
    drawn: np.ndarray
    recent: np.ndarray
    length: np.ndarray
    attributes: Callable[[np.ndarray], np.ndarray]
    gather: Gather
    clock: int


@dataclass(frozen=True)
class Rows:
    """Rows of one block as they stand after something: arrays of one length, keys unique."""

    keys: np.ndarray  # int64[r]
    values: np.ndarray  # float32[r, width + slots]
    links: np.ndarray  # int64[r, L]
    filled: np.ndarray  # int32[r]: links in use
    count: np.ndarray  # int64[r]
    last_at: np.ndarray  # int64[r], microseconds

    def __len__(self) -> int:
        return len(self.keys)


# Copies of the rows of unique keys, zeros for a key without one, and bool[r]: which there are.
Gather = Callable[[str, np.ndarray], tuple[Rows, np.ndarray]]


@dataclass(frozen=True)
class View:
    """All n rows of a block as a snapshot has them; arrays as in Rows, not to be written, good until the head changes."""

    values: np.ndarray
    links: np.ndarray
    filled: np.ndarray
    last_at: np.ndarray

    def take(self, rows: np.ndarray) -> np.ndarray:
        """float32[..., width + slots] of the rows, zeros where a row is -1."""
        if not len(self.values):
            return np.zeros((*rows.shape, self.values.shape[1]), np.float32)
        taken = self.values[np.where(rows >= 0, rows, 0)]
        taken[rows < 0] = 0.0
        return np.asarray(taken)


@dataclass(frozen=True)
class Asked:
    """m users who ask for lists, as rows of a snapshot: of each block of the USER space the user's own row (int32[m]), of
    each block of the ITEM space those of his newest items (int32[m, r], newest first), of each block of the FEATURE space
    those of the context he asks in (int32[m, F]); -1 for none. `clock` microseconds; `decay` float64[m] one of the model's
    decays for each (None: the first).
    """

    views: Mapping[str, View]
    user: Mapping[str, np.ndarray]
    recent: Mapping[str, np.ndarray]
    features: Mapping[str, np.ndarray]
    clock: int
    decay: np.ndarray | None = None


@dataclass(frozen=True)
class Extras:
    """What some items score beside query . vector + bias, never below 0: asker a has value[x] (float32) for the item under
    key[x] (int64), offsets[a] <= x < offsets[a + 1], each item at most once."""

    offsets: np.ndarray
    keys: np.ndarray
    values: np.ndarray


@dataclass(frozen=True)
class Part:
    """What one row adds to a score: `what` in a word (bias, user, had, context, attribute, follows, segment), the block and the
    number of the row in its view (-1: no row of its own), and the amount."""

    what: str
    block: str
    row: int
    amount: float


@dataclass(frozen=True)
class Mix:
    """score = dense * (query . vector + bias) + sparse * extra + popularity * log(decayed popularity)"""

    dense: float
    sparse: float
    popularity: float


class Model(Protocol):
    """The contract every registered model keeps; tests/models/test_contract.py runs all of them through it."""

    name: str
    factors: int  # length of its vectors, 0 for a model without
    negatives: int  # negatives wanted per event
    recent: int  # of the user's newest items wanted per event, at most MOST_RECENT
    asked: int  # of his newest items wanted when a list is asked for
    loss_metric: str  # name of the metric of `loss`: rmse (loss is squared error / 2), logloss, hinge or perceptron
    labels: bool  # whether targets are 1 or 0 and a prediction is a score of 1; with logloss it is the log-odds
    mixes: tuple[Mix, ...]  # how scores are made; of several the one is used that ranked best so far, at first the first
    # Of the interest in a user's newest items, each against the one after it: of several each group of users gets what ranked
    # best so far, at first the first. A group begins at 0 or one of `groups` events of a user; none has less than one decay.
    decays: tuple[float, ...]
    groups: tuple[int, ...]

    def blocks(self) -> tuple[Block, ...]:
        """The blocks the model learns."""
        ...

    def positive(self, events: Events) -> np.ndarray:
        """bool[n]: events that say the user wanted the item; they feed popularity, negatives and ranking metrics."""
        ...

    def examples(self, events: Events, context: Context) -> Examples:
        """The examples of the events, at most one per event, in their order; their `keys` name the blocks that shards learn."""
        ...

    def tally(self, gather: Gather, events: Events, positive: np.ndarray, context: Context) -> dict[str, Rows]:
        """Changed rows of the blocks that are counted rather than learned: all events in their order, no shards."""
        ...

    def score(self, task: ShardTask) -> tuple[np.ndarray, np.ndarray]:
        """(prediction, loss) float64[n] of the examples as `learn` would report them, but nothing is changed between
        them; a reference of -1 is a row the snapshot does not have."""
        ...

    def learn(self, task: ShardTask) -> ShardResult:
        """One sequential pass; changes the task's own rows and returns them."""
        ...

    def known(self, asked: Asked) -> np.ndarray:
        """bool[m]: askers of whom the snapshot knows enough to rank by more than popularity."""
        ...

    def queries(self, asked: Asked) -> np.ndarray:
        """float32[m, d] query vectors, zeros for what is not known."""
        ...

    def extras(self, asked: Asked) -> Extras | None:
        """Scores that no product of vectors gives; None for a model without."""
        ...

    def parts(self, asked: Asked, item: int, rows: Mapping[str, np.ndarray]) -> tuple[list[Part], list[Part]]:
        """What one asker's score of one item, its key and its `rows` as item_matrix has them, is made of: the parts of
        query . vector + bias and those of its extra."""
        ...

    def item_matrix(self, views: Mapping[str, View], rows: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(float32[n, d], float32[n]) vectors and biases of n items: score = query . vector + bias, up to a constant.

        rows int32[n] of each block of the ITEM space, -1 for an item it does not have; int32[n, A] of each block of the
        ATTRIBUTE space, -1 for none."""
        ...
