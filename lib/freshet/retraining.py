"""Several passes over the same events by the learner of the stream, early stopping, the best pass kept.

    made = retrain(learner, empty, start, events, plan, run)        # made.head: rows and digest, not committed

A pass is the stream over again: micro-batches of the events learned, in canonical order, each event with the context it had
then. What is counted rather than learned (histories, popularity, the window, what follows what) begins each pass where
`start` has it, so it is counted once however many passes there are; so do slots that add up, the worth of a Kalman row, for
a value seen again is no second value. Rows that are learned, and the leaders among mixes and decays, go on from pass to pass;
negatives are drawn anew.

After each pass the validation events are scored as the stream would serve them. When `patience` passes in a row were no
better, it ends. The best pass is then measured on the test events; and with a split by time what was held out is learned at
last, once, as the stream would have: the head stands where one stands that learned all events.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from freshet.companions import advance
from freshet.errors import FreshetError
from freshet.head import Head
from freshet.kernels.seeds import combine, mix
from freshet.learner import Learner, Run
from freshet.models.contract import Events, Model
from freshet.normalising import NONE, OFFSETS, begun, scale_of, scaled, unscaled
from freshet.prequential import SEQUENTIAL, SERVED
from freshet.report import Metric
from freshet.schema import INTEREST, MIX

STREAM, ANYWHERE = "stream", "anywhere"
TIME, LEAVE_LAST_OUT, RANDOM = "time", "leave-last-out", "random"
SPLITS = (TIME, LEAVE_LAST_OUT, RANDOM)
ERRORS = ("rmse", "mae", "logloss", "hinge", "perceptron")  # metrics of which less is better


@dataclass(frozen=True)
class Plan:
    """Most passes; passes in a row that may be no better; shares of the events held out, and how they are chosen (one of
    SPLITS); the metric that tells which pass is best (None: the model's own); held out events that are ranked (0: all); events
    of a micro-batch; seed; how values are normalised for the passes (one of normalising.NORMALISATIONS, other than none of mf with
    sgd alone); what a user's item is learned beside: the newest before it (STREAM) or any of his others (ANYWHERE)."""

    passes: int
    patience: int
    validation: float
    test: float
    split: str
    metric: str | None
    sample: int
    micro_batch: int
    seed: int
    normalise: str = NONE
    context: str = STREAM


@dataclass(frozen=True)
class Progress:
    """How far it is: pass number from 1 (0: what was held out, learned last), events of it learned so far and in all."""

    number: int
    done: int
    events: int


@dataclass(frozen=True)
class Pass:
    """One pass: its number from 1, the mean loss of its events just before each was learned, the validation metrics, the value
    of the one that decides (NaN: none), whether it is the best so far, what the limits touched."""

    number: int
    loss: float
    metrics: tuple[Metric, ...]
    value: float
    best: bool
    limited: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Retrained:
    """The head after the best pass, the passes, the name of the metric that decided, the test metrics of the best pass, the
    names of the blocks that were learned."""

    head: Head
    passes: tuple[Pass, ...]
    metric: str
    test: tuple[Metric, ...]
    learned: frozenset[str]

    @property
    def best(self) -> Pass:
        """The pass that was kept."""
        return [one for one in self.passes if one.best][-1]


Watcher = Callable[[Progress | Pass], None]


def retrain(
    learner: Learner, empty: Callable[[], Head], start: Head, events: Events, plan: Plan, run: Run,
    weights: Head | None = None, watch: Watcher = lambda _: None,
) -> Retrained:
    """Learn events in canonical order, in up to `plan.passes` passes.

    `empty` makes a head without rows; `start` is the state before the first event; learned rows begin as `weights` has them
    (None: new). The heads given stay as they are. Raises BatchRefused where learning runs away, FreshetError when nothing is
    left to learn or the model has no such metric.
    """
    parts = split(events, plan)
    if not len(parts[0]):
        raise FreshetError(
            f"Of {len(events)} events none is left to learn from.", remedy="Hold out less, or take a longer range.",
            events=len(events),
        )
    train, validation, test = (take(events, at) for at in parts)
    metric, learned = plan.metric or own_metric(learner.model), learned_blocks(learner, start, take(events, slice(0)))
    judge = Learner(learner.model, replace(learner.spec, metrics=replace(learner.spec.metrics, sample=plan.sample)))
    worth = empty() if weights is None else start
    scale = scale_of(plan.normalise, train.value)
    teacher = learner if scale is None else Learner(scaled(learner.model, scale), learner.spec)

    def said(head: Head) -> Head:
        return head if scale is None else unscaled(restart(empty(), head, head, head, learned), scale)

    passes: list[Pass] = []
    head = best = _begun(learner, empty, train, plan) if weights is None else weights
    while len(passes) < plan.passes and (not passes or any(one.best for one in passes[-plan.patience :])):
        number = len(passes) + 1
        head = restart(empty(), start, head, worth, learned)
        loss, limited = one_pass(teacher, head, train, plan, run, watch, number)
        metrics, led = judge.measure(said(head), validation)
        for name, rows in led.items():
            head.put(name, rows)
        found = value(metrics, metric, learner.model.name)
        good = not len(validation) or not passes or better(metric, found, [one.value for one in passes if one.best][-1])
        passes.append(Pass(number, loss, tuple(metrics), found, good, limited))
        watch(passes[-1])
        best = head if good else best
    tested, _ = judge.measure(said(best), test)
    if plan.split == TIME:
        one_pass(teacher, best, take(events, np.sort(np.concatenate(parts[1:]))), plan, run, watch, 0)
    return Retrained(said(best), tuple(passes), metric, tuple(tested), learned)


def one_pass(
    learner: Learner, head: Head, events: Events, plan: Plan, run: Run, watch: Watcher, number: int
) -> tuple[float, Mapping[str, int]]:
    """Learn the events into the head; the mean loss of them just before each was learned (rmse: its root), and what the limits
    touched."""
    # The first pass, and what was held out, is what a stream learns, bit for bit; later ones meet other negatives.
    companions = learner.spec.companions
    if number > 1:
        companions = replace(companions, seed=int(combine(np.uint64(companions.seed), np.uint64(number))))
    learner = Learner(learner.model, replace(learner.spec, companions=companions))
    among = None
    if number and plan.context == ANYWHERE and companions.recent:
        among = anywhere(events, companions.recent, companions.seed)
    wanted = (learner.model.loss_metric, SEQUENTIAL, "all")
    losses: list[Metric] = []
    limited: Counter[str] = Counter()
    for begin in range(0, len(events), plan.micro_batch):
        at = slice(begin, begin + plan.micro_batch)
        batch = take(events, at)
        made = learner.learn(head, batch, run, served=number < 2, among=None if among is None else (among[0][at], among[1][at]))
        head.apply(made.changes, made.digest)
        head.clock = max(head.clock, int(batch.event_at.max()))
        limited.update(made.limited)
        losses += [one for one in made.metrics if (one.metric, one.scoring, one.slice) == wanted]
        watch(Progress(number, min(begin + plan.micro_batch, len(events)), len(events)))
    total, count = sum(one.total for one in losses), sum(one.events for one in losses)
    loss = replace(losses[0], total=total, events=count).mean if losses else math.nan
    return loss, dict(limited)


def anywhere(events: Events, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n, count] items, int32[n] how many: all or none): for each event items of other events of its user, before it or
    after, drawn by the event's id with replacement; none where he has no other."""
    n = len(events)
    order = np.argsort(events.user_key, kind="stable")
    _, first, size = np.unique(events.user_key[order], return_index=True, return_counts=True)
    start, others = np.empty(n, np.int64), np.empty(n, np.int64)
    start[order], others[order] = np.repeat(first, size), np.repeat(size, size) - 1
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    drawn = mix(events.event_hash.view(np.uint64) ^ mix(np.uint64(seed)))[:, None] + np.arange(count, dtype=np.uint64)
    at = start[:, None] + (mix(drawn.ravel()).reshape(n, count) % np.maximum(others, 1).astype(np.uint64)[:, None]).astype(np.int64)
    at += at >= place[:, None]
    items = events.item_key[order]
    return items[np.minimum(at, n - 1)], np.where(others > 0, count, 0).astype(np.int32)


def _begun(learner: Learner, empty: Callable[[], Head], train: Events, plan: Plan) -> Head:
    """Where learned rows begin without weights: at nothing, or at the biases of the events."""
    head = empty()
    for name, rows in begun(learner.model, train, plan.seed).items() if plan.normalise == OFFSETS else ():
        head.put(name, rows)
    return head


def restart(head: Head, start: Head, weights: Head, worth: Head, learned: frozenset[str]) -> Head:
    """Fill an empty head for a pass: learned rows and the leader from `weights`, but what adds up in their slots from `worth`;
    the rest, and the clock, from `start`."""
    for name, block in head.blocks.items():
        source = weights if name in learned or name in (MIX, INTEREST) else start
        keys = source.tables[name].keys.copy()
        rows, _ = source.gather(name, keys)
        if block.slots_add:
            rows.values[:, block.width :] = worth.gather(name, keys)[0].values[:, block.width :]
        head.put(name, rows)
    head.clock = start.clock
    return head


def learned_blocks(learner: Learner, head: Head, nothing: Events) -> frozenset[str]:
    """Names of the model's blocks that shards learn; its others are counted. `nothing` are no events."""
    context = advance(head, nothing, learner.model.positive(nothing), learner.spec.companions).context
    return frozenset(learner.model.examples(nothing, context).keys)


def split(events: Events, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Numbers of the events to learn, to validate and to test by, each ascending.

    time: the last ones, by their shares, so that nobody is judged by what came before what he was learned from.
    leave-last-out: each user's last event to test, the one before it to validate by; users with fewer than three are learned.
    random: of each user the shares rounded down, chosen by the hashes of event ids. The last two are for comparison with what
    others report: they judge the past by its future.
    """
    n = len(events)
    if plan.split == TIME:
        place, of = np.arange(n), np.full(n, n)
    else:
        by = np.arange(n, dtype=np.uint64)
        if plan.split == RANDOM:
            by = mix(events.event_hash.view(np.uint64) ^ mix(np.uint64(plan.seed)))
        order = np.lexsort((by, events.user_key))
        _, first, count = np.unique(events.user_key[order], return_index=True, return_counts=True)
        place, of = np.empty(n, np.int64), np.empty(n, np.int64)
        place[order], of[order] = np.arange(n) - np.repeat(first, count), np.repeat(count, count)
    if plan.split == LEAVE_LAST_OUT:
        tests = ((of >= 3) & (plan.test > 0)).astype(np.int64)
        validations = ((of >= 3) & (plan.validation > 0)).astype(np.int64)
    else:
        tests, validations = (np.floor(share * of).astype(np.int64) for share in (plan.test, plan.validation))
    test = place >= of - tests
    validation = ~test & (place >= of - tests - validations)
    return np.flatnonzero(~test & ~validation), np.flatnonzero(validation), np.flatnonzero(test)


def take(events: Events, at: np.ndarray | slice) -> Events:
    """The events at these positions."""
    return Events(*(getattr(events, one.name)[at] for one in fields(Events)))


def own_metric(model: Model) -> str:
    """The metric that decides where none is named: the model's loss for values and labels, else ndcg."""
    return model.loss_metric if model.labels or model.loss_metric == "rmse" else "ndcg"


def value(metrics: Sequence[Metric], metric: str, learner: str) -> float:
    """The served metric of that name, of whatever list length, over all events; NaN without metrics.

    Raises FreshetError where there are some and none of that name."""
    mine = {one.metric: one.mean for one in metrics if (one.scoring, one.learner, one.slice) == (SERVED, learner, "all")}
    found = [mean for name, mean in mine.items() if name == metric or name.startswith(f"{metric}@")]
    if mine and not found:
        raise FreshetError(
            f"Nothing is known of {metric} of {learner} on the validation events.",
            remedy=f"Set retrain.metric to one of {', '.join(sorted(mine))}.", metric=metric,
        )
    return found[0] if found else math.nan


def better(metric: str, found: float, best: float) -> bool:
    """Whether a value of the metric is better than the best so far."""
    return found < best if metric in ERRORS else found > best
