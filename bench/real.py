"""Public sets in the order of time, one pass, by the learner over arrays (cleaning and tables left out: they change nothing).

Ratings: the sequential score is each event just before it is learned; the served one is that of the snapshot before the
micro-batch. Next item: the true item is ranked against all known items with the weights of the snapshot, the user's own
earlier events of the same micro-batch known as context and left out as seen; the first 10 % is not counted. A new user or
a new item is part of every figure. Settings are those of conf/examples, shards and rounds where a row names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from figures import Figure, Options, Result, Table, missing
from leader_plot import Led, draw
from prequential_runs import Sums, Triples, clicks, genres, ratings, run, sequences, shop
from public_sets import NotThere

from freshet.models import make_model
from freshet.settings import Settings, load

EXAMPLES = Path(__file__).parents[1] / "conf" / "examples"
SMALL = ("real.mlsmall.rmse", "real.mlsmall.rating.rmse")
RATING = tuple(f"real.ml100k.rating.{name}" for name in ("rmse", "mae", "shards", "genres.rmse", "genres.mae", "genres.shards"))
BLEND_FILMS, BLEND_NEWS, BLEND_CONTEXT, BLEND_MINUTES, BLEND_LISTENERS, BLEND_BUYERS = (
    tuple(f"real.{name}.blend.{metric}" for metric in ("recall", "ndcg"))
    for name in ("ml100k", "globo", "globo.context", "globo.context.1000", "lastfm", "beauty"))
# Set -> how it is read, events of a micro-batch, events of it that are ranked: for a stranger, who sets nothing.
STRANGERS: dict[str, tuple[Callable[[Path], Triples], int, int]] = {
    "ml100k": (lambda data: ratings(data, "movielens-100k"), 1000, 0), "globo": (clicks, 10_000, 512),
    "lastfm": (lambda data: sequences(data, "LastFM"), 1000, 0), "beauty": (lambda data: sequences(data, "Beauty"), 1000, 256),
}
UNTUNED = tuple(f"real.{name}.untuned.{metric}" for name in STRANGERS for metric in ("recall", "ndcg"))
RANKED = 512  # events of a micro-batch of 10,000 that are ranked; of smaller ones all are


def example(name: str, *sets: str) -> Settings:
    """The settings of an example."""
    return load([EXAMPLES / f"{name}.yaml"], {}, list(sets))[0]


def measure(options: Options) -> Result:
    """Every set that is in the folder."""
    result = Result(" ".join((__doc__ or "").split()))
    led: dict[str, Led] = {}
    for part, names in (
        (_ratings, ("real.ml100k.rmse.1", "real.ml100k.rmse.8")), (_small, SMALL), (_unsure, RATING),
        (_films, ("real.ml100k.bpr.recall",)), (_news, ("real.globo.bpr.recall",)), (_shop, ("real.retailrocket.bpr.recall",)),
        (_films_in_turn, BLEND_FILMS), (_news_in_turn, BLEND_NEWS), (_news_in_context, (*BLEND_CONTEXT, *BLEND_MINUTES)),
        (_listeners, BLEND_LISTENERS), (_buyers, BLEND_BUYERS), (_untuned, UNTUNED),
    ):
        try:
            led |= part(options, result) or {}
        except NotThere as error:
            result.figures += [missing(name, name, str(error)) for name in names]
    if led and not options.quick and not draw(led):
        result.tables.append(Table("Which mix led when was not drawn", [["matplotlib is not installed here"]]))
    return result


def _ratings(options: Options, result: Result) -> None:
    triples = ratings(options.data or Path(), "movielens-100k")
    rows = [["movielens-100k, mf", "RMSE", "MAE", "RMSE, last 30 %", "MAE, last 30 %"]]
    for name, size, scoring, sets in (
        ("real.ml100k.rmse.1", len(triples.user), "sequential", ("model.shards=1",)),
        ("real.ml100k.rmse.8", len(triples.user), "sequential", ("model.shards=8", "model.round_events=1000", "model.round_share=null")),
        ("", 1000, "sequential", ()),
        ("", 1000, "served", ()),
    ):
        parts = run(triples, size, example("movielens-100k-mf", *sets))
        what = f"{scoring}, {', '.join(sets) or 'default shards'}, micro-batches of {min(size, 70_000):,}"
        rows.append([what, *_pair_of(parts, scoring, "mf")])
        if name:
            value = parts["from 0%"].value("rmse", scoring, "mf")
            result.figures.append(Figure(name, f"movielens-100k, sequential RMSE, {', '.join(sets)}", value, digits=4))
    rows.append(["popularity (item means), served, micro-batches of 1,000", *_pair_of(parts, "served", "popularity")])
    rows.append(["River's BiasedMF, sequential", *_river(triples)])
    result.tables.append(Table("Ratings of films; two thirds of the served events have a user the snapshot has not met", rows))


def _unsure(options: Options, result: Result) -> None:
    """rating, without the films' genres and with them, and biases: steps as long as a row is unsure."""
    data = options.data or Path()
    triples, known = ratings(data, "movielens-100k"), genres(data)
    rows, found = [["movielens-100k", "RMSE", "MAE", "RMSE, last 30 %", "MAE, last 30 %"]], {}
    small = ("model.shards=8", "model.round_events=1000", "model.round_share=null")
    for model, size, scoring, sets, described in (
        ("rating", len(triples.user), "sequential", ("model.shards=1",), None), ("rating", len(triples.user), "sequential", small, None),
        ("rating", 1000, "served", (), None), ("rating", len(triples.user), "sequential", ("model.shards=1",), known),
        ("rating", len(triples.user), "sequential", small, known), ("rating", 1000, "served", (), known),
        ("biases", len(triples.user), "sequential", ("model.shards=1",), None), ("biases", 1000, "served", (), None),
    ):
        features = () if described is None else ("model.features.items=[genre]",)
        parts = run(triples, size, example("movielens-100k-rating", f"model.name={model}", *features, *sets), described=described)
        what = f"{model}{' with genres' if features else ''}, {scoring}, {', '.join(sets) or 'default shards'}"
        rows.append([f"{what}, micro-batches of {min(size, 70_000):,}", *_pair_of(parts, scoring, model)])
        found[model, scoring, bool(features), sets[:1]] = [parts["from 0%"].value(metric, scoring, model) for metric in ("rmse", "mae")]
    for which, names in enumerate((RATING[:3], RATING[3:])):
        one, eight = (found["rating", "sequential", bool(which), (f"model.shards={shards}",)] for shards in (1, 8))
        what = f"movielens-100k, rating{' with genres' if which else ''}, sequential"
        late = f"last 30 %: {' / '.join(rows[4 if which else 1][3:])}"
        result.figures += [
            Figure(names[0], f"{what} RMSE", one[0], None, None, late, digits=4),
            Figure(names[1], f"{what} MAE", one[1], None, None, late, digits=4),
            Figure(names[2], f"{what} RMSE of 8 shards in rounds of 1,000 over one shard's", eight[0] / one[0], digits=5),
        ]
    result.tables.append(Table("Ratings of films by Kalman updates", rows))


def _pair_of(parts: dict[str, Sums], scoring: str, learner: str) -> list[str]:
    return [f"{sums.value(metric, scoring, learner):.4f}" for sums in parts.values() for metric in ("rmse", "mae")]


def _river(triples: Triples) -> list[str]:
    """RMSE and MAE of River's BiasedMF with the settings of its own example on this set."""
    try:
        from river import optim, reco, utils  # noqa: F401
        from river.optim import initializers
    except ImportError:
        return ["not installed here", "", "", ""]
    model = reco.BiasedMF(
        n_factors=10, bias_optimizer=optim.SGD(0.025), latent_optimizer=optim.SGD(0.05),
        weight_initializer=initializers.Zeros(), latent_initializer=initializers.Normal(mu=0.0, sigma=0.1, seed=73),
        l2_bias=0.0, l2_latent=0.0,
    )
    errors = np.empty(len(triples.user))
    for number, (user, item, value) in enumerate(zip(triples.user.tolist(), triples.item.tolist(), triples.value.tolist(), strict=True)):
        errors[number] = model.predict_one(user=user, item=item) - value
        model.learn_one(user=user, item=item, y=value)
    last = errors[int(0.7 * len(errors)):]
    return [f"{figure:.4f}" for part in (errors, last) for figure in (math.sqrt((part**2).mean()), np.abs(part).mean())]


def _small(options: Options, result: Result) -> None:
    triples = ratings(options.data or Path(), "movielens-latest-small")
    river = " / ".join(_river(triples)[::2])
    for name, model in zip(SMALL, ("mf", "rating"), strict=True):
        parts = run(triples, 1000, example("movielens-latest-small", f"model.name={model}"))
        value, late = (sums.value("rmse", "sequential", model) for sums in parts.values())
        result.figures.append(Figure(name, f"movielens-latest-small, sequential RMSE, {model}", value, None, None,
                                     f"last 30 %: {late:.4f}; River's BiasedMF: {river}", digits=4))


def _films(options: Options, result: Result) -> None:
    settings = example("movielens-100k-bpr", "model.positive_from=null", "metrics.sample=0")
    triples = ratings(options.data or Path(), "movielens-100k")
    _ranked("ml100k", "movielens-100k, every rating a positive, micro-batches of 1,000", triples, 1000, settings, result)


def _news(options: Options, result: Result) -> None:
    settings = example("globo-clicks", "model.name=bpr", f"metrics.sample={RANKED}")
    triples = clicks(options.data or Path())
    if options.quick:
        triples = triples[:400_000]
    _ranked("globo", "globo-clicks, micro-batches of 10,000", triples, 10_000, settings, result)


def _films_in_turn(options: Options, result: Result) -> dict[str, Led]:
    triples, settings = ratings(options.data or Path(), "movielens-100k"), example("movielens-100k-blend", "metrics.sample=0")
    what = "movielens-100k, every rating a positive, micro-batches of 1,000"
    return {what: _ranked("ml100k", what, triples, 1000, settings, result).led}


def _news_in_turn(options: Options, result: Result) -> None:
    triples = clicks(options.data or Path())
    if options.quick:
        triples = triples[:400_000]
    settings = example("globo-clicks", "model.features.context=[]", f"metrics.sample={RANKED}")
    _ranked("globo", "globo-clicks, micro-batches of 10,000", triples, 10_000, settings, result)


def _news_in_context(options: Options, result: Result) -> dict[str, Led]:
    triples = clicks(options.data or Path())
    if options.quick:
        triples = triples[:400_000]
    led = {}
    for name, size, ranked in (("globo.context", 10_000, RANKED), ("globo.context.1000", 1000, RANKED // 8)):
        what = f"globo-clicks with the context of a click, micro-batches of {size:,}"
        led[what] = _ranked(name, what, triples, size, example("globo-clicks", f"metrics.sample={ranked}"), result).led
    return led


def _listeners(options: Options, result: Result) -> None:
    triples, settings = sequences(options.data or Path(), "LastFM"), example("s3rec-sequences", "metrics.sample=0")
    _ranked("lastfm", "LastFM of s3rec-sequences, a tenth of the users at once, micro-batches of 1,000", triples, 1000, settings, result)


def _buyers(options: Options, result: Result) -> None:
    triples, settings = sequences(options.data or Path(), "Beauty"), example("s3rec-sequences", "metrics.sample=256")
    _ranked("beauty", "Beauty of s3rec-sequences, a tenth of the users at once, micro-batches of 1,000", triples, 1000, settings, result)


def _untuned(options: Options, result: Result) -> None:
    """Every set with no setting at all, its context unused."""
    rows = [["blend, nothing set", "Recall@10", "NDCG@10", "the same, last 30 %", ""]]
    for name, (read, size, ranked) in STRANGERS.items():
        triples = read(options.data or Path())
        if options.quick:
            triples = triples[:400_000]
        parts = run(triples, size, load([], {}, [f"metrics.sample={ranked}"])[0], starts=(0.1, 0.7))
        found = [sums.value(metric, "served", "blend") for sums in parts.values() for metric in ("recall@10", "ndcg@10")]
        rows.append([f"{name}, micro-batches of {size:,}", *(f"{value:.4f}" for value in found)])
        for metric, value in zip(("recall", "ndcg"), found, strict=False):
            result.figures.append(Figure(f"real.{name}.untuned.{metric}", f"{name}, nothing set: blend {metric}@10", value, digits=4))
    result.tables.append(Table("Next item with nothing set", rows))


def _shop(options: Options, result: Result) -> None:
    settings = example("retailrocket-core", "metrics.sample=0")
    triples = shop(options.data or Path(), settings.source.values)
    _ranked("retailrocket", "retailrocket-core, a tenth of the users at once, micro-batches of 1,000", triples, 1000, settings, result)


def _leaders(what: str, sums: Sums) -> Table:
    """How many ranked events each mix led for, most first."""
    led = {learner.removeprefix("leader: "): total for (_, _, learner), total in sums.totals.items() if learner.startswith("leader: ")}
    rows = [["mix", "events", "NDCG@10"]]
    rows += [[mix, f"{events:,.0f}", f"{gained / events:.4f}"] for mix, (gained, events) in sorted(led.items(), key=lambda one: -one[1][1])]
    return Table(f"Mixes that led, {what}", rows)


def _ranked(name: str, what: str, triples: Triples, size: int, settings: Settings, result: Result) -> Sums:
    """Figures and tables of one run; returns the sums of all events but the first tenth."""
    parts = run(triples, size, settings, starts=(0.1, 0.7))
    k, model = settings.metrics.k, settings.model.name
    show: Callable[[Sums, str, str], str] = lambda sums, metric, learner: f"{sums.value(metric, 'served', learner):.4f}"
    every, last = parts.values()
    value = every.value(f"recall@{k}", "served", model)
    beside = f"popularity {show(every, f'recall@{k}', 'popularity')}; last 30 %: {show(last, f'recall@{k}', model)}, popularity "
    result.figures.append(Figure(
        f"real.{name}.{model}.recall", f"{what}: {model} Recall@{k}", value, None, None,
        beside + show(last, f"recall@{k}", "popularity"), digits=4))
    if len(make_model(settings.model).mixes) > 1:
        result.figures.append(Figure(
            f"real.{name}.{model}.ndcg", f"{what}: {model} NDCG@{k}", every.value(f"ndcg@{k}", "served", model), None, None,
            f"last 30 %: {show(last, f'ndcg@{k}', model)}", digits=4))
        result.tables.append(_leaders(what, every))
    rows = [[what, f"Recall@{k}", f"NDCG@{k}", "MRR", "the same, last 30 %", "", ""]]
    for learner in (model, "popularity"):
        rows.append([learner, *(show(sums, metric, learner) for sums in parts.values() for metric in (f"recall@{k}", f"ndcg@{k}", "mrr"))])
    unknown = [show(sums, metric, model) for sums in parts.values() for metric in ("unknown_user", "unknown_item")]
    result.tables.append(Table(
        f"Next item, {what}; share of unknown users {unknown[0]}, items {unknown[1]} (last 30 %: {unknown[2]}, {unknown[3]})", rows))
    return every
