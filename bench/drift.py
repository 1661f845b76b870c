"""Changes planted in generated streams: what the detectors find of them and when, and what the strategy's answer is worth.

Streams of the demo's generator, learned in micro-batches of 300 events without Spark: at the half of a stream half of the users and
15 % of the items get new tastes, or nothing changes. Delay: micro-batches from the change to the alarm, median. False alarms: those
of the same detector on the streams without a change, and before the change, for 1,000 micro-batches. Shares of refused events are
drawn: 1 % refused, from the half on 5 %. Strategy: the served metric after the change with `strategy.drift: learning rate 2 for 20
micro-batches` (page_hinkley) over that without, the same stream each time; above 1 is better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from arrays import Arrays, chosen, events
from figures import Figure, Options, Result, Stages, Table, middle

from freshet.demo.generator import Stream
from freshet.demo.truth import CLICKS, RATINGS, World
from freshet.detectors import DETECTORS, SETTLED, Series
from freshet.pipelines.assembly import new_learner
from freshet.policy.strategy import METRIC, Counts, Strategy, readings
from freshet.schema import HISTORY, POPULARITY
from freshet.settings import Settings

SIZE = 300
MODELS = {"blend": CLICKS, "bpr": CLICKS, "mf": RATINGS}
ANSWER = ("strategy.detectors=[page_hinkley]", 'strategy.drift=["learning rate 2 for 20 micro-batches"]')
Values = list[tuple[float, int]]


def measure(options: Options) -> Result:
    """Every model and detector, then shares."""
    result = Result(" ".join((__doc__ or "").split()))
    rows = [["signal", "detector", "changes found", "delay in micro-batches", "false alarms in 1,000"]]
    seeds = range(options.pairs(7, 2))
    for model, kind in MODELS.items():
        worlds = [World(users=600, items=300, events=options.pairs(60_000, 48_000), seed=seed, kind=kind) for seed in seeds]
        settings = chosen(f"model.name={model}")
        changed = [learned(world, settings) for world in worlds]
        same = [learned(replace(world, drift_at=None), settings) for world in worlds]
        rows += _found(f"{model}: {new_learner(settings).judged_by}", changed, same, result, f"drift.{model}")
        answered = [learned(world, chosen(f"model.name={model}", *ANSWER)) for world in worlds]
        gains = [_after(on) / _after(off) for on, off in zip(answered, changed, strict=True)]
        gains = gains if kind == CLICKS else [1 / gain for gain in gains]
        off, on = (abs(float(np.mean([_after(values) for values in runs]))) for runs in (changed, answered))
        what = f"{model}: {new_learner(settings).judged_by} after the change, strategy on over off"
        result.figures.append(Figure(f"drift.{model}.strategy", what, *middle(gains), f"{on:.4f}, {off:.4f}", digits=4))
    rows += _found("refused share", shares(0.05, seeds), shares(0.01, seeds), result, "drift.refusals")
    result.tables.append(Table("Detectors", rows))
    return result


def learned(world: World, settings: Settings) -> Values:
    """What the series of the metric is given, micro-batch by micro-batch, with the strategy of the settings."""
    drawn = Stream(world).take(world.events)
    drawn = drawn[np.argsort(drawn.event_at, kind="stable")]
    rules, arrays, found, timer = settings.strategy, Arrays(settings), [], Stages()
    strategy = Strategy(rules, {METRIC: Series(METRIC, rules.detectors, rules.events, rules.settle)})
    for begin in range(0, len(drawn), SIZE):
        part, change = drawn[slice(begin, begin + SIZE)], strategy.change
        before = [len(arrays.head.tables[name]) for name in (HISTORY, POPULARITY)]
        metrics = arrays.step(events(part.user, part.item, part.value, part.event_at, begin), timer).metrics
        users, items = (len(arrays.head.tables[name]) - old for name, old in zip((HISTORY, POPULARITY), before, strict=True))
        read = readings(metrics, arrays.learner.judged_by, settings.model.name, Counts(len(part), len(part), 0, users, items))
        found.append(read.get(METRIC, (0.0, 0)))
        strategy.look(read)
        if strategy.change != change:
            arrays.learner = new_learner(settings.with_change(strategy.change))
    return found


def shares(changed: float, seeds: Sequence[int]) -> list[Values]:
    """Refused events of micro-batches of SIZE: one in a hundred, from the half on this share."""
    return [
        [(float(random.binomial(SIZE, share)), SIZE) for share in (0.01,) * 100 + (changed,) * 100]
        for random in (np.random.default_rng([3, seed, int(1000 * changed)]) for seed in seeds)
    ]


def _after(values: Values) -> float:
    totals = np.array(values[len(values) // 2 :])
    return float(totals[:, 0].sum() / totals[:, 1].sum())


def _found(signal: str, changed: list[Values], same: list[Values], result: Result, name: str) -> list[list[str]]:
    """A row for each detector, and its figures."""
    rows = []
    for detector in DETECTORS:
        half = len(changed[0]) // 2
        delays, false = [], 0
        for values in changed:
            at = alarms(values, detector)
            later = [one - half + 1 for one in at if one >= half]
            delays += later[:1]
            false += len(at) - len(later)
        false += sum(len(alarms(values, detector)) for values in same)
        micro_batches = sum(len(values) for values in same) + half * len(changed)
        delay, low, high = middle(delays)
        rate = 1000 * false / micro_batches
        if delays:
            what = f"{signal}, {detector}: delay in micro-batches"
            result.figures.append(Figure(f"{name}.{detector}.delay", what, delay, low, high, f"{len(delays)} of {len(changed)} found", digits=3))
        what = f"{signal}, {detector}: false alarms in 1,000 micro-batches"
        result.figures.append(Figure(f"{name}.{detector}.false", what, rate, None, None, f"{false} in {micro_batches:,}"))
        rows.append([signal, detector, f"{len(delays)} of {len(changed)}", f"{delay:.0f}", f"{rate:.2f}"])
    return rows


def alarms(values: Values, detector: str) -> list[int]:
    """Micro-batches at which the detector raises an alarm, with the default settings."""
    rules = chosen().strategy
    series = Series(METRIC, [detector], rules.events, rules.settle)
    told = [(at, series.update(*value)) for at, value in enumerate(values)]
    return [at for at, alarm in told if alarm is not None and alarm.detector != SETTLED]
