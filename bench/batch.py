"""Several passes over the same events of movielens-100k, by the learner over arrays (cleaning and tables left out).

Films: of each user's ratings, all of them positives, 75 % by the hash of the event are learned; nDCG@10 of the list of each user
over all films that he has not among those, by the other 25 %, mean over users; five splits, smallest and largest beside the mean
(settings were chosen on two splits of their own). Ratings: five folds by the hash of the event, each
learned from the other four and tested once; RMSE over all. Others, tuned, by the same protocol: implicit's iALS .478, EASE .480,
published BiVAE .475 and BPR .442 for films; SVD++ .919 for ratings.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import numpy as np
from arrays import events
from figures import Figure, Options, Result, Table, missing
from prequential_runs import ratings
from public_sets import NotThere
from real import example

from freshet.evaluation.by_user import lists_worth
from freshet.learner import Learner
from freshet.models.contract import Events
from freshet.pipelines.assembly import new_head, new_learner
from freshet.retraining import ANYWHERE, RANDOM, TIME, Pass, Plan, Retrained, retrain, split, take
from freshet.settings import Settings

# Whoever holds out ratings at random asks what goes together, not what comes next: whole histories, items beside each other
# wherever they stood.
FILMS = (
    "model.query.decay=1", "model.query.asked=1000", "model.neighbours.asked=1000", "model.neighbours.asked_decay=1",
    "model.negative_draw=uniform", "model.mix=[0.4,1.0,-0.2]", "model.query.tied=true", "popularity.half_life=never", "metrics.sample=1",
    # Long steps at first, short ones in the last passes: .01 better after ten than steps of one length.
    "model.optimizer.learning_rate=0.004", "model.optimizer.bias_rate=0.002", "model.optimizer.schedule=inverse_sqrt",
    "model.optimizer.schedule_events=3000",
)
RATINGS = ("model.factors=64", "model.l2=0.08", "model.bias_l2=0.01", "model.optimizer.learning_rate=0.01",
           "model.optimizer.bias_rate=0.005", "metrics.sample=1")
PASSES, RATING_PASSES, FOLDS = 10, 30, 5
SPLITS = (42, 43, 44, 45, 46)
NAMES = ("batch.ml100k.ndcg.1", f"batch.ml100k.ndcg.{PASSES}", "batch.ml100k.rmse")


def measure(options: Options) -> Result:
    """Films after one pass and after ten; ratings."""
    result = Result(" ".join((__doc__ or "").split()))
    try:
        triples = ratings(options.data or Path(), "movielens-100k")
    except NotThere as error:
        result.figures += [missing(name, name, str(error)) for name in NAMES]
        return result
    every = events(triples.user, triples.item, triples.value, triples.at)
    _films(every, options, result)
    _ratings(every, options, result)
    return result


def passes(settings: Settings, known: Events, count: int, context: str = "stream") -> tuple[Learner, Retrained, float]:
    """All of the events, so many passes; the learner, what it made, and events/s of the last pass."""
    learner = new_learner(settings)
    plan = Plan(count, count, 0.0, 0.0, TIME, None, 0, settings.retrain.micro_batch, settings.model.seed, context=context)
    ended: list[float] = [time.monotonic()]
    made = retrain(
        learner, lambda: new_head(learner.model, settings), new_head(learner.model, settings), known, plan,
        lambda tasks: [learner.model.learn(task) for task in tasks],
        watch=lambda step: ended.append(time.monotonic()) if isinstance(step, Pass) else None)
    return learner, made, len(known) / (ended[-1] - ended[-2])


def _films(every: Events, options: Options, result: Result) -> None:
    settings = example("movielens-100k-blend", *FILMS)
    rows = [["movielens-100k, blend", *(f"split {seed}" for seed in SPLITS), "events/s of the last pass"]]
    for name, count in zip(NAMES, (1, 2 if options.quick else PASSES), strict=False):
        found, speeds = [], []
        for seed in SPLITS[: options.pairs(len(SPLITS), 1)]:
            learn, _, test = split(every, Plan(1, 1, 0.0, 0.25, RANDOM, None, 0, 1, seed))
            learner, made, speed = passes(settings, take(every, learn), count, ANYWHERE)
            found.append(lists_worth(made.head, learner, take(every, test))["ndcg@10"])
            speeds.append(speed)
        told = f"after {count} {'pass' if count == 1 else 'passes'}"
        rows.append([told, *(f"{one:.4f}" for one in found), f"{np.median(speeds):,.0f}"])
        what = f"movielens-100k, nDCG@10 of lists {told}, mean over splits"
        result.figures.append(Figure(name, what, float(np.mean(found)), min(found), max(found), f"{len(found)} splits", digits=4))
    result.tables.append(Table("Films, 75 % of each user's ratings learned, split in several ways", rows))


def _ratings(every: Events, options: Options, result: Result) -> None:
    settings, fold = example("movielens-100k-mf", *RATINGS), np.argsort(np.argsort(every.event_hash)) % FOLDS
    count, folds, rows = 2 if options.quick else RATING_PASSES, range(1 if options.quick else FOLDS), [["fold", "RMSE", "events/s"]]
    squared, tested = 0.0, 0
    for number in folds:
        learner, made, speed = passes(settings, take(every, np.flatnonzero(fold != number)), count)
        metrics, _ = learner.measure(made.head, take(every, np.flatnonzero(fold == number)))
        [mine] = [one for one in metrics if (one.metric, one.learner, one.slice) == ("rmse", "mf", "all")]
        squared, tested = squared + mine.total, tested + mine.events
        rows.append([str(number + 1), f"{mine.mean:.4f}", f"{speed:,.0f}"])
    what = f"movielens-100k, mf, {FOLDS} folds, {count} passes: RMSE"
    result.figures.append(Figure(NAMES[2], what, math.sqrt(squared / tested), digits=4))
    result.tables.append(Table("Ratings", rows))
