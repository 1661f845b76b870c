"""Fake accounts that push items up or down, and what the limits do about it.

Each fake account has 40 fillers and the 3 targets, at one moment; the accounts come one after the other within a twentieth of the
stream, after six tenths of it. `push` takes fillers at random, `average` gives them their own mean (of clicks: takes them by how
popular they are), `bandwagon` takes the 10 most popular items and others at random, `nuke` rates targets lowest, which clicks
cannot say. Targets are items of middle popularity, of nuke those that stood in most lists. The hit rate is the share of real users
known at the end in whose list of 10 a target is, mean of the targets. `off`: no limit. `default`: what nobody sets. `strict`:
warm_up 20, young 50, burst 2 from 5 events on, user_change a twentieth of the default. `trimmed`: strict, with that merge rule.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from arrays import Arrays, chosen, events, keys
from figures import Figure, Options, Result, Stages, Table
from prequential_runs import Sums, Triples, ratings
from public_sets import NotThere

from freshet.demo.generator import Stream
from freshet.demo.truth import CLICKS, RATINGS, World
from freshet.lists import shelf, top_items
from freshet.models.contract import ITEM, USER, Events
from freshet.pipelines.assembly import half_lives
from freshet.rates import Asked
from freshet.schema import HISTORY, POPULARITY

SIZE, FILLERS, TARGETS, K = 1000, 40, 3, 10
BEGIN, END = 0.6, 0.65
KINDS, SHARES = ("push", "average", "bandwagon", "nuke"), (0.01, 0.03, 0.05)
NONE = ("limits.user_events=null", "limits.pair_events=null", "limits.user_change=null", "limits.burst=null")
STRICT = ("limits.warm_up=20", "limits.young=50", "limits.burst=2", "limits.burst_events=5", "limits.user_change=250")
GUARDS = {"off": NONE, "default": (), "strict": STRICT, "trimmed": (*STRICT, "model.merge=trimmed")}


@dataclass(frozen=True)
class Victim:
    """Events under attack: their name in figures, what learns them, and whether they are values or clicks."""

    name: str
    triples: Triples
    sets: tuple[str, ...]
    values: bool


def measure(options: Options) -> Result:
    """Every kind of attack on every set that is there."""
    result = Result(" ".join((__doc__ or "").split()))
    victims = [_planted(options, CLICKS), _planted(options, RATINGS)]
    try:
        films = ratings(options.data or Path(), "movielens-100k")
        victims.append(Victim("ml100k.rating", films, ("model.name=rating",), True))
        liked = films.value >= 4
        victims.append(Victim("ml100k.blend", _some(films, np.flatnonzero(liked)), ("model.name=blend",), False))
    except NotThere as error:
        result.tables.append(Table("movielens-100k was left out", [[str(error)]]))
    for victim in victims:
        _attacked(victim, options, result)
    return result


def _planted(options: Options, kind: str) -> Victim:
    count = options.pairs(40_000, 8000)
    drawn = Stream(World(users=1000, items=400, events=count, drift_at=None, seed=options.seed, kind=kind)).take(count)
    drawn = drawn[np.argsort(drawn.event_at, kind="stable")]
    name, model = ("planted.rating", "rating") if kind == RATINGS else ("planted.blend", "blend")
    return Victim(name, Triples(drawn.user, drawn.item, drawn.value, drawn.event_at), (f"model.name={model}",), kind == RATINGS)


def _some(triples: Triples, at: np.ndarray) -> Triples:
    return Triples(triples.user[at], triples.item[at], triples.value[at], triples.at[at])


def _attacked(victim: Victim, options: Options, result: Result) -> None:
    """The table of one set, and of 5 % the figure: hit rate with the default limits over that without, and with strict ones."""
    calm = {guard: learned(victim, victim.triples, sets) for guard, sets in GUARDS.items()}
    quiet = {guard: run.arrays for guard, run in calm.items()}
    rows = [[victim.name, *GUARDS, "fake among the users named by `movers`, off"]]
    targets = {kind: targets_of(victim, quiet["off"], kind, options.seed) for kind in KINDS if victim.values or kind != "nuke"}
    for kind, mine in targets.items():
        base = [f"{hit_rate(one, mine, victim):.4f}" for one in quiet.values()]
        rows.append([f"{kind}: none", *base, ""])
        for share in (SHARES[-1:] if options.quick else SHARES):
            hurt = attacked(victim.triples, kind, share, mine, victim.values, options.seed)
            runs = {guard: learned(victim, hurt, sets) for guard, sets in GUARDS.items()}
            found = {guard: hit_rate(run.arrays, mine, victim) for guard, run in runs.items()}
            rows.append([f"{kind}: {share:.0%}", *(f"{value:.4f}" for value in found.values()), f"{runs['off'].named:.0%}"])
            if share == SHARES[-1]:
                for guard in ("default", "strict"):
                    change, without = (found[one] - hit_rate(quiet[one], mine, victim) for one in (guard, "off"))
                    what = f"{victim.name}, {kind} at {share:.0%}: change of the hit rate with the {guard} limits over that without"
                    beside = f"{change:+.4f} / {without:+.4f}"
                    result.figures.append(Figure(
                        f"attacks.{victim.name}.{kind}.{guard}", what, change / without if without else None, beside=beside,
                        missing="" if without else "the attack changes nothing"))
    rows.append([f"{calm['off'].metric}, nobody attacks", *(f"{run.value:.4f}" for run in calm.values()), ""])
    result.tables.append(Table(f"Hit rate of the targets, {victim.name}, {len(victim.triples.user):,} events", rows))


def targets_of(victim: Victim, arrays: Arrays, kind: str, seed: int) -> np.ndarray:
    """Numbers of the items that are pushed: of middle popularity; or put down: those in most lists."""
    items, counts = np.unique(victim.triples.item, return_counts=True)
    if kind == "nuke":
        lists = lists_of(arrays, victim)
        listed = np.array([(lists == key).any(axis=1).sum() for key in keys(items, ITEM)])
        return items[np.argsort(-listed, kind="stable")[:TARGETS]]
    order = items[np.argsort(counts, kind="stable")]
    middle_third = order[len(order) // 3 : 2 * len(order) // 3]
    return np.random.default_rng([seed, 5]).choice(middle_third, TARGETS, replace=False)


def attacked(triples: Triples, kind: str, share: float, targets: np.ndarray, values: bool, seed: int) -> Triples:
    """The events with those of the fake accounts among them, in order of time."""
    rng = np.random.default_rng([seed, 6, KINDS.index(kind)])
    items, where, counts = np.unique(triples.item, return_inverse=True, return_counts=True)
    means = np.bincount(where, triples.value) / counts
    fakes = max(1, round(share * len(np.unique(triples.user))))
    fillers = np.stack([_fillers(rng, kind, items, counts, values) for _ in range(fakes)])
    lowest, highest = (triples.value.min(), triples.value.max()) if values else (1.0, 1.0)
    told = means[fillers] if kind == "average" else np.where(
        counts[fillers] >= np.sort(counts)[-10] if kind == "bandwagon" else False, highest,
        rng.normal(triples.value.mean(), triples.value.std() if values else 0.0, fillers.shape))
    item = np.concatenate([items[fillers], np.tile(targets, (fakes, 1))], axis=1)
    value = np.concatenate([np.clip(told, lowest, highest), np.full((fakes, TARGETS), lowest if kind == "nuke" else highest)], axis=1)
    at = np.linspace(*np.quantile(triples.at, [BEGIN, END]), fakes).astype(np.int64)
    order = rng.permuted(np.tile(np.arange(item.shape[1]), (fakes, 1)), axis=1)
    item, value = (np.take_along_axis(cells, order, axis=1).ravel() for cells in (item, value))
    user = np.repeat(triples.user.max() + 1 + np.arange(fakes), FILLERS + TARGETS)
    moment = np.repeat(at, FILLERS + TARGETS) + np.tile(np.arange(FILLERS + TARGETS) * 1_000_000, fakes)
    whole = [np.concatenate(pair) for pair in ((triples.user, user), (triples.item, item), (triples.value, value), (triples.at, moment))]
    return _some(Triples(*whole), np.argsort(whole[3], kind="stable"))


def _fillers(rng: np.random.Generator, kind: str, items: np.ndarray, counts: np.ndarray, values: bool) -> np.ndarray:
    """Places of an account's fillers among the items."""
    if kind == "average" and not values:
        return rng.choice(len(items), FILLERS, replace=False, p=counts / counts.sum())
    top = np.argsort(-counts, kind="stable")[:10] if kind == "bandwagon" else np.empty(0, np.int64)
    rest = rng.choice(np.setdiff1d(np.arange(len(items)), top), FILLERS - len(top), replace=False)
    return np.concatenate([top, rest])


@dataclass(frozen=True)
class Learned:
    """A learner after all events; the share of fake ones among the users named by the versions that were attacked; the served
    metric of all events and its name."""

    arrays: Arrays
    named: float
    metric: str
    value: float


def learned(victim: Victim, triples: Triples, sets: tuple[str, ...]) -> Learned:
    """A learner over all events, in micro-batches of SIZE."""
    arrays, timer, sums = Arrays(chosen(*victim.sets, "metrics.sample=64", *sets)), Stages(), Sums()
    real, named = set(keys(np.unique(victim.triples.user), USER).tolist()), []
    fake = ~np.isin(triples.user, np.unique(victim.triples.user))
    for begin in range(0, len(triples.user), SIZE):
        part = slice(begin, begin + SIZE)
        told = arrays.step(passed(arrays, triples[part], begin), timer)
        for metric in told.metrics:
            sums.add(metric)
        if fake[part].any():
            named += [mover.key not in real for mover in told.movers if mover.space == "user"]
    model, metric = arrays.learner.model.name, "rmse" if victim.values else "ndcg@10"
    return Learned(arrays, float(np.mean(named)) if named else float("nan"), metric, sums.value(metric, "served", model))


def passed(arrays: Arrays, part: Triples, begin: int) -> Events:
    """The events of a micro-batch that no cap refuses."""
    batch = events(part.user, part.item, part.value, part.at, begin)
    asked = Asked(batch.user_key, batch.item_key, batch.event_at, batch.corrects)
    over = np.logical_or(*arrays.head.rates.over(asked))
    kept = Events(*(getattr(batch, one.name)[~over] for one in fields(Events)))
    arrays.head.rates.note(asked.at(~over))
    return kept


def lists_of(arrays: Arrays, victim: Victim) -> np.ndarray:
    """int64[m, K] item keys of the list of each real user the head knows."""
    head, settings = arrays.head, chosen(*victim.sets)
    users = keys(np.unique(victim.triples.user), USER)
    users = users[head.lookup(HISTORY, users) >= 0]
    order = np.argsort(np.argsort(head.tables[POPULARITY].keys))
    on = shelf(head, arrays.learner.model, half_lives(settings), order)
    return top_items(head, arrays.learner.model, on, users, K, settings.history.items).items


def hit_rate(arrays: Arrays, targets: np.ndarray, victim: Victim) -> float:
    """Share of the real users whose list has a target, mean of the targets."""
    lists = lists_of(arrays, victim)
    return float(np.mean([(lists == key).any(axis=1).mean() for key in keys(targets, ITEM)]))
