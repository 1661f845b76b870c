"""One micro-batch as a pure function: head rows + events -> changed rows, metrics, digest.

    learned = Learner(...).learn(head, events, run)        # the head stays as it is
    ... commit learned.changes ...
    head.apply(learned.changes, learned.digest)

Order of things: the companions see the events one after the other (negatives are drawn on the way); every event is
scored with the head; then rounds of consecutive events are learned by all shards and merged, each round on what the one
before left. What comes out depends on the events, their order, the head and the settings, never on who ran a shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np

from freshet import prequential
from freshet.companions import CompanionSpec, advance
from freshet.errors import BatchRefused
from freshet.head import TOTALS, Head
from freshet.influence import NO_LIMITS, TRIES, Budget, LimitSpec, Mover, movers, weigh
from freshet.kernels.ranking import ndcg_at
from freshet.kernels.shards import members, shard_of
from freshet.models.contract import Context, Events, Examples, Model, Rows, ShardResult, ShardTask
from freshet.ranked import MetricSpec, ranked_events
from freshet.registry import pick
from freshet.report import Metric
from freshet.schema import HISTORY
from freshet.workspace import Workspace

SCORED_AT_ONCE, THREADS = 25_000, 4  # examples, of which so many parts at the same time
FEWEST_IN_ROUND = 1000  # of a round that is kept small because the model is young
Run = Callable[[Sequence[ShardTask]], list[ShardResult]]
Timer = Callable[[str], AbstractContextManager[None]]


@dataclass(frozen=True)
class LearnerSpec:
    """What the learner needs beside the model: logical shards, most events of a round and its largest share of the
    positive events learned before (None: any), seed, largest share of row updates that may hit the norm cap, companions
    and metrics, the largest weight that a small propensity may give an event (None: propensities are not looked at), whether
    nothing but the companions changes, block -> half-life in microseconds of what rows without an event still know, and how far
    accounts may move what they share."""

    shards: int
    round_events: int
    round_share: float | None
    seed: int
    max_capped_share: float
    companions: CompanionSpec
    metrics: MetricSpec
    propensity_clip: float | None = None
    frozen: bool = False
    forget: Mapping[str, float] = field(default_factory=dict)
    limits: LimitSpec = NO_LIMITS


@dataclass(frozen=True)
class Learned:
    """Per block the changed rows with their digests, the state's digest with them, the metrics, events learned; who moved, and
    what was moved, most; and what the limits touched, by limit."""

    changes: dict[str, tuple[Rows, np.ndarray]]
    digest: int
    metrics: tuple[Metric, ...]
    examples: int
    movers: tuple[Mover, ...] = ()
    limited: Mapping[str, int] = field(default_factory=dict)


class Learner:
    """Learns micro-batches of one model; holds no state of its own."""

    def __init__(self, model: Model, spec: LearnerSpec) -> None:
        self.model = model
        self.spec = spec
        for name in spec.forget:
            pick("block in model.optimizer.forget", name, {block.name: block for block in model.blocks() if not block.links})

    def learn(
        self, head: Head, events: Events, run: Run, timer: Timer = lambda stage: nullcontext(), served: bool = True,
        among: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> Learned:
        """Learn events in canonical order; they are scored by the head first, unless not `served`: events that it has learned
        before say nothing of it. `among` (as Context.recent and Context.length) stands for the users' newest items in what is
        learned by shards. Raises BatchRefused (reason `not finite` or `capped`); the head never changes."""
        model = self.model
        events = by_propensity(events, self.spec.propensity_clip)
        positive = model.positive(events)
        if self.spec.frozen:
            return self._counted(head, events, positive, timer, served)
        counted, trust = positive & ~events.corrects, weigh(head, events, self.spec.limits)
        weighed = trust.counted(events)
        # Counting and ranking share nothing with what follows but the head, which nobody writes: they fill what that leaves idle.
        with ThreadPoolExecutor(2) as aside:
            with timer("gather"):
                ahead = advance(head, weighed, positive, self.spec.companions)
                counting = aside.submit(model.tally, head.gather, weighed, counted, ahead.context)
                ranking = aside.submit(self._ranked, head, events, counted, ahead.context) if served else None
                context = ahead.context if among is None else replace(ahead.context, recent=among[0], length=among[1])
                examples = model.examples(events, context)
                space = Workspace(head, model.blocks(), examples, self.spec.seed)
            with timer("score"):
                metrics = self._served(head, events, space) if served else []
            with timer("learn"):
                budget = Budget(trust, examples.event, self.spec.limits.user_change)
                metrics += self._rounds(head, events, counted, space, budget, run, timer)
            with timer("score"):
                ranked, led = ranking.result() if ranking is not None else ([], {})
            with timer("tally"):
                tallied = counting.result()
        with timer("digest"):
            rows = {name: space.changed(name) for name in space.sheets}
            beside = {**tallied, **ahead.rows} | led
            rows |= beside
            _check_finite(rows)
            changes, digest = head.changes(rows)
            most = movers(trust, budget.moved, space.ways())
        return Learned(changes, digest, (*ranked, *metrics), len(examples), most, trust.told | budget.told)

    def _counted(self, head: Head, events: Events, positive: np.ndarray, timer: Timer, served: bool) -> Learned:
        """What a frozen model makes of events: the companions go on, no row of the model or of what leads changes."""
        counted = positive & ~events.corrects
        with timer("gather"):
            trust = weigh(head, events, self.spec.limits)
            ahead = advance(head, trust.counted(events), positive, self.spec.companions)
            space = Workspace(head, self.model.blocks(), self.model.examples(events, ahead.context), self.spec.seed)
        with timer("score"):
            metrics = self._ranked(head, events, counted, ahead.context)[0] + self._served(head, events, space) if served else []
        with timer("digest"):
            changes, digest = head.changes(ahead.rows)
        return Learned(changes, digest, tuple(metrics), 0, (), trust.told)

    def measure(self, head: Head, events: Events) -> tuple[list[Metric], dict[str, Rows]]:
        """What `learn` would say of how the head serves the events, in canonical order, and what that says of the mixes and decays:
        rows of blocks `mix` and `interest`, where there is a choice. Nothing is learned."""
        if not len(events):
            return [], {}
        events = by_propensity(events, self.spec.propensity_clip)
        positive = self.model.positive(events)
        context = advance(head, events, positive, self.spec.companions).context
        space = Workspace(head, self.model.blocks(), self.model.examples(events, context), self.spec.seed)
        metrics, led = self._ranked(head, events, positive & ~events.corrects, context)
        return metrics + self._served(head, events, space), led

    def _ranked(self, head: Head, events: Events, positive: np.ndarray, context: Context) -> tuple[list[Metric], dict[str, Rows]]:
        return prequential.ranking_metrics(head, self.model, events, positive, context, self.spec.metrics)

    def _served(self, head: Head, events: Events, space: Workspace) -> list[Metric]:
        examples = space.examples
        new_user = head.lookup(HISTORY, events.user_key[examples.event]) < 0
        if not len(head.tables[TOTALS]) or not len(examples):
            return []  # nothing was known yet: there is nobody to serve
        prediction, loss = _of_new(events, examples, *self.predict(space))
        metrics = prequential.loss_metrics(self.model, prequential.SERVED, examples, prediction, loss, new_user)
        half_life = self.spec.metrics.half_lives[0]
        return metrics + prequential.popularity_metrics(head, self.model, events, examples, new_user, half_life)

    def predict(self, space: Workspace) -> tuple[np.ndarray, np.ndarray]:
        """(prediction, loss) float64[n] of the examples of a workspace, with the weights of the snapshot."""
        n = len(space.examples)
        parts = [slice(start, start + SCORED_AT_ONCE) for start in range(0, max(n, 1), SCORED_AT_ONCE)]
        with ThreadPoolExecutor(THREADS) as pool:  # a score depends on nothing but the snapshot and its own example
            scored = list(pool.map(lambda part: self.model.score(space.snapshot_task(part)), parts))
        return tuple(np.concatenate(values) for values in zip(*scored, strict=True))  # type: ignore[return-value]

    def judged(self, head: Head, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """(numbers of events, value of each): NDCG@K where the model ranks, absolute error of a value, loss of a label, with the
        rows of the head as they are (see `ranks`)."""
        model = self.model
        if model.loss_metric != "rmse" and not model.labels:
            number, rank = self.ranks(head, events)
            return number, np.asarray(ndcg_at(rank, self.spec.metrics.k), np.float64)
        context = advance(head, events, model.positive(events), self.spec.companions).context
        space = Workspace(head, model.blocks(), model.examples(events, context), self.spec.seed)
        if not len(space.examples):
            return np.empty(0, np.int64), np.empty(0)
        prediction, loss = self.predict(space)
        value = loss if model.labels else np.abs(prediction - space.examples.target)
        new = ~events.corrects[space.examples.event]
        return space.examples.event[new], value[new]

    def ranks(self, head: Head, events: Events) -> tuple[np.ndarray, np.ndarray]:
        """(numbers of the positive events that can be ranked, int32: place of each one's item, 0 for none) with the rows of the
        head as they are. A head that knows no item yet ranks nothing right."""
        positive = self.model.positive(events)
        context = advance(head, events, positive, self.spec.companions).context
        positive = positive & ~events.corrects
        spec = replace(self.spec.metrics, sample=0, segment=None, decays=())
        ranked = ranked_events(head, self.model, events, positive, context, spec)
        if ranked is None:
            return np.flatnonzero(positive), np.zeros(int(positive.sum()), np.int32)
        return ranked.events, ranked.rank

    @property
    def judged_by(self) -> str:
        """Name of the metric of `judged`."""
        model = self.model
        return "mae" if model.loss_metric == "rmse" else model.loss_metric if model.labels else f"ndcg@{self.spec.metrics.k}"

    def _rounds(
        self, head: Head, events: Events, positive: np.ndarray, space: Workspace, budget: Budget, run: Run, timer: Timer
    ) -> list[Metric]:
        examples = space.examples
        n = len(examples)
        if not n:
            return []
        space.forget(self.spec.forget, events.event_at)
        shard = shard_of(events.user_key[examples.event], self.spec.shards)
        prediction, loss = np.empty(n), np.empty(n)
        capped = 0
        for start, stop in rounds(examples.event, positive, head.events_in_window(), self.spec):
            chosen = [start + part for part in members(shard[start:stop], self.spec.shards) if len(part)]
            results, origins = _within(budget, space, chosen, run)
            with timer("merge"):
                space.merge(results, origins)
            for part, result in zip(chosen, results, strict=True):
                prediction[part], loss[part] = result.prediction, result.loss
                capped += result.capped
        self._check_caps(capped, examples)
        space.note_times(events.event_at)
        new_user = head.lookup(HISTORY, events.user_key[examples.event]) < 0
        prediction, loss = _of_new(events, examples, prediction, loss)
        return prequential.loss_metrics(self.model, prequential.SEQUENTIAL, examples, prediction, loss, new_user)

    def _check_caps(self, capped: int, examples: Examples) -> None:
        updates = sum(
            int(examples.present[name].sum()) if name in examples.present else keys.size for name, keys in examples.keys.items())
        if capped > self.spec.max_capped_share * updates:
            raise BatchRefused(
                f"{capped} of {updates} row updates hit the norm cap: learning diverges.",
                remedy="Lower model.optimizer.learning_rate or raise model.max_norm.",
                reason="capped", capped=capped, updates=updates,
            )


def _within(
    budget: Budget, space: Workspace, parts: list[np.ndarray], run: Run
) -> tuple[list[ShardResult], list[dict[str, np.ndarray]]]:
    """(results, rows behind theirs) of a round's shards; those with an account over its limit learn anew with shorter steps."""
    results: dict[int, ShardResult] = {}
    origins: dict[int, dict[str, np.ndarray]] = {}
    again, left = list(range(len(parts))), TRIES
    while again:
        space.trust, left = budget.trust, left - 1
        tasks, behind = zip(*space.tasks([parts[number] for number in again]), strict=True)
        results |= dict(zip(again, run(tasks), strict=True))
        origins |= dict(zip(again, behind, strict=True))
        again = budget.over(parts, [results[number] for number in range(len(parts))], last=left == 1)
    return [results[number] for number in range(len(parts))], [origins[number] for number in range(len(parts))]


def _of_new(
    events: Events, examples: Examples, prediction: np.ndarray, loss: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """NaN, which no metric counts, for examples of events that were measured before they were corrected."""
    again = events.corrects[examples.event]
    if again.any():
        prediction, loss = (np.where(again, np.nan, values) for values in (prediction, loss))
    return prediction, loss


def by_propensity(events: Events, clip: float | None) -> Events:
    """The events with weight * min(1 / propensity, clip); one without a propensity keeps its weight.

    Inverse propensity weights, clipped against their variance: Bottou et al., JMLR 14 (2013), section 4.
    """
    if clip is None:
        return events
    factor = np.where(np.isnan(events.propensity), 1.0, np.minimum(1.0 / events.propensity, clip))
    return replace(events, weight=events.weight * factor)


def rounds(event: np.ndarray, positive: np.ndarray, before: int, spec: LearnerSpec) -> Iterator[tuple[int, int]]:
    """(start, stop) of the examples of each round; `before`: positive events learned before these."""
    cuts, learned = [0], before + np.concatenate([[0], np.cumsum(positive)])
    while cuts[-1] < len(positive):
        most = spec.round_events
        if spec.round_share is not None:
            most = min(most, max(FEWEST_IN_ROUND, int(spec.round_share * int(learned[cuts[-1]]))))
        cuts.append(cuts[-1] + most)
    for start, stop in pairwise(np.searchsorted(event, cuts).tolist()):
        if stop > start:
            yield start, stop


def _check_finite(rows: dict[str, Rows]) -> None:
    for name, changed in rows.items():
        bad = ~np.isfinite(changed.values).all(axis=1)
        if bad.any():
            raise BatchRefused(
                f"{int(bad.sum())} rows of block {name} are not finite after learning.",
                remedy="Lower model.optimizer.learning_rate; the state before this micro-batch stands.",
                reason="not finite", block=name, rows=int(bad.sum()),
            )
