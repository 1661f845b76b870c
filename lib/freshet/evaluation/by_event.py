"""Each event by itself, as the prequential `served` metrics do it: weights of one snapshot, which stand still; the user's own
earlier events, those of the range included, are known when his next one is asked about.

Ranks are of scores, before any rule of lists. What popularity says of the same events stands beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from freshet.companions import advance
from freshet.evaluation.measures import label_parts, probability, rank_parts, reliability, value_parts
from freshet.evaluation.observations import Observations, Parts, Slices
from freshet.evaluation.parting import item_slices, user_slices
from freshet.head import Head
from freshet.learner import Learner
from freshet.models.contract import Events
from freshet.prequential import popularity_levels, popularity_values
from freshet.ranked import SAMPLED, Ranked, ranked_events
from freshet.schema import POPULARITY
from freshet.workspace import Workspace

BASELINE = "popularity"


@dataclass(frozen=True)
class Terms:
    """How it is judged: lists of k, the threshold of yes or no (None: the model's own), ranked events (0: all), items ranked
    against (None: all), the seed of both samples."""

    k: int = 10
    threshold: float | None = None
    sample: int = 0
    candidates: int | None = None
    seed: int = 1


@dataclass(frozen=True)
class Subject:
    """A snapshot that is judged, under a name."""

    name: str
    head: Head
    learner: Learner


def ranked(subjects: Sequence[Subject], events: Events, terms: Terms, further: Sequence[Slices] = ()) -> Observations | None:
    """The places of the positive events' items by each subject and by popularity; None where nothing can be ranked.

    Events in canonical order, `further` slices of them. Positive is what the first subject's model calls so. An event of an
    item that the user already has, by any of the snapshots, is left out.
    """
    first = subjects[0]
    positive = first.learner.model.positive(events)
    found = [_ranked(subject, events, positive, terms) for subject in subjects]
    there = [one for one in found if one is not None]
    if not there or len(there) < len(found):
        return None
    at = reduce(np.intersect1d, [one.events for one in there])
    suffix = SAMPLED if any(one.sampled for one in there) else ""
    places = {subject.name: one.rank[np.searchsorted(one.events, at)] for subject, one in zip(subjects, there, strict=True)}
    places[BASELINE] = there[0].popular[np.searchsorted(there[0].events, at)]
    parts = {name: rank_parts(rank, terms.k, suffix) for name, rank in places.items()}
    return Observations(events.user_key[at], parts, _slices(first.head, events, at, further))


def _ranked(subject: Subject, events: Events, positive: np.ndarray, terms: Terms) -> Ranked | None:
    spec, model = subject.learner.spec, subject.learner.model
    context = advance(subject.head, events, positive, replace(spec.companions, negatives=0)).context
    most = len(subject.head.tables[POPULARITY]) if terms.candidates is None else terms.candidates
    chosen = replace(
        spec.metrics, k=terms.k, sample=terms.sample, max_items=most, seed=terms.seed, segment=None, decays=())
    return ranked_events(subject.head, model, events, positive, context, chosen)


def predicted(
    subjects: Sequence[Subject], events: Events, terms: Terms, further: Sequence[Slices] = ()
) -> tuple[Observations, dict[str, Any]] | None:
    """What the subjects say of values or labels, and how well their probabilities are calibrated; None for a model that
    predicts neither. A subject that predicts something else than the first is left out."""
    first = subjects[0]
    model = first.learner.model
    if not judges_predictions(first):
        return None
    alike = [one for one in subjects if judges_predictions(one) and one.learner.model.loss_metric == model.loss_metric]
    scores = {subject.name: _scores(subject, events) for subject in alike}
    parts: dict[str, Parts] = {}
    slices = _slices(first.head, events, np.arange(len(events)), further)
    if not model.labels:
        every = {**scores, BASELINE: popularity_values(first.head, events)}
        parts = {name: value_parts(score, events.value, terms.threshold) for name, score in every.items()}
        return Observations(events.user_key, parts, slices), {}
    positive, logistic = model.positive(events), model.loss_metric == "logloss"
    parts = {name: label_parts(score, positive, logistic, terms.threshold) for name, score in scores.items()}
    levels = popularity_levels(first.head, events.item_key, first.learner.spec.metrics.half_lives[0])
    calibrated: dict[str, Any] = {}
    for name, score in scores.items() if logistic else ():
        rows, error = reliability(probability(score), positive)
        calibrated[name] = {"calibration_error": error, "reliability": rows}
    return Observations(events.user_key, parts, slices, {**scores, BASELINE: levels}, positive), calibrated


def judges_predictions(subject: Subject) -> bool:
    """Whether the model says a value or a label of an event, rather than only what to prefer."""
    model = subject.learner.model
    return model.labels or model.loss_metric == "rmse"


def _scores(subject: Subject, events: Events) -> np.ndarray:
    """float64[n]: predictions with the snapshot's weights; a row it does not have counts as nothing."""
    learner, model = subject.learner, subject.learner.model
    positive = model.positive(events)
    context = advance(subject.head, events, positive, learner.spec.companions).context
    examples = model.examples(events, context)
    found = np.full(len(events), np.nan)
    found[examples.event], _ = learner.predict(Workspace(subject.head, model.blocks(), examples, learner.spec.seed))
    return found


def _slices(head: Head, events: Events, at: np.ndarray, further: Sequence[Slices]) -> tuple[Slices, ...]:
    return (*user_slices(head, events.user_key[at]), *item_slices(head, events.item_key[at]), *(one.take(at) for one in further))
