"""From the settings to a model, a learner and an empty head."""

from __future__ import annotations

import math

from freshet.companions import CompanionSpec
from freshet.engine.features import attribute_places
from freshet.head import Head
from freshet.influence import LimitSpec
from freshet.learner import Learner, LearnerSpec
from freshet.models import make_model
from freshet.models.contract import Model
from freshet.ranked import MetricSpec
from freshet.rates import Rates
from freshet.segments import SegmentSpec
from freshet.settings import Settings

MICROSECONDS = 1_000_000


def half_lives(settings: Settings) -> tuple[float, ...]:
    """Half-lives of popularity in microseconds, infinite for never: the baseline's first, then those a mix may take."""
    popularity = settings.popularity
    others = popularity.also if len(make_model(settings.model).mixes) > 1 else ()
    # One that is named twice stays twice: the width of a row must not depend on the first of them, which may be changed.
    return tuple(math.inf if seconds is None else seconds * MICROSECONDS for seconds in (popularity.half_life, *others))


def segments(settings: Settings) -> SegmentSpec | None:
    """Popularity by segment, None where it is not asked for."""
    popularity = settings.popularity
    if popularity.segment is None:
        return None
    column = settings.model.features.context.index(popularity.segment)
    return SegmentSpec(column, half_lives(settings)[0], popularity.segment_prior)


def dedup_window(settings: Settings) -> int:
    """The dedup window in microseconds."""
    return int(settings.clean.dedup_window * MICROSECONDS)


def label_wait(settings: Settings) -> int | None:
    """How long an impression waits in microseconds, None where it does not."""
    return None if settings.labels.wait is None else int(settings.labels.wait * MICROSECONDS)


def metric_spec(settings: Settings) -> MetricSpec:
    """What the prequential metrics need."""
    metrics, decays = settings.metrics, make_model(settings.model).decays
    return MetricSpec(
        metrics.sample, metrics.k, metrics.max_items, half_lives(settings), settings.history.items,
        settings.model.seed, segments(settings), decays if len(decays) > 1 else (),
    )


def new_learner(settings: Settings) -> Learner:
    """The learner of the settings."""
    chosen, limits = settings.model, settings.limits
    model = make_model(chosen)
    companions = CompanionSpec(
        half_lives(settings), settings.history.items, settings.window.events, chosen.negative_draw, model.negatives,
        chosen.negative_tries, chosen.seed, model.recent, segments(settings),
    )
    spec = LearnerSpec(
        chosen.shards, chosen.round_events, chosen.round_share, chosen.seed, settings.guard.max_capped_share, companions,
        metric_spec(settings), chosen.propensity_clip, chosen.frozen,
        {block: seconds * MICROSECONDS for block, seconds in chosen.optimizer.forget.items()},
        LimitSpec(limits.warm_up, limits.user_change, limits.young, limits.burst, limits.burst_events),
    )
    return Learner(model, spec)


def new_head(model: Model, settings: Settings) -> Head:
    """An empty head for the model."""
    features, popularity = settings.model.features, settings.popularity
    attributes = attribute_places(features) if features.items else 0
    segment = 0 if popularity.segment is None else popularity.segment_items
    head = Head(model.blocks(), dedup_window(settings), len(half_lives(settings)), len(features.context), attributes, segment)
    if capped(settings):
        head.rates = Rates(settings.limits.user_events, settings.limits.pair_events)
    return head


def capped(settings: Settings) -> bool:
    """Whether events of an hour are counted: not where the source knows no time, and a file is one moment; nor where impressions
    wait, of which a page has many and nobody sends them."""
    return settings.source.order == "time" and settings.labels.wait is None
