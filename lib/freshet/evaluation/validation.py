"""One number for one snapshot: what early stopping and a comparison of settings look at."""

from __future__ import annotations

from freshet.evaluation.by_event import Subject, Terms, predicted, ranked
from freshet.evaluation.by_user import listed, wanted
from freshet.head import Head
from freshet.learner import Learner
from freshet.models.contract import Events


def validate(head: Head, learner: Learner, events: Events, by: str = "event", terms: Terms | None = None) -> dict[str, float]:
    """Metric -> value of the model on events (in canonical order) it has not learned, without intervals.

    by "event": recall@K ... mrr of each positive event, and rmse, mae or logloss, auc ... of a model that predicts values or
    labels; by "user": the lists of the users against all they took. What cannot be measured is not in it.
    """
    terms = terms or Terms()
    subject, model = Subject(learner.model.name, head, learner), learner.model
    if by == "user":
        who = wanted(head, events, model.positive(events), learner.spec.metrics.history_items)
        return listed([subject], who, terms)[0].values()[subject.name]
    found: dict[str, float] = {}
    seen, said = ranked([subject], events, terms), predicted([subject], events, terms)
    for one in (seen, None if said is None else said[0]):
        found |= {} if one is None else one.values()[subject.name]
    return found
