"""Each user once: a list of K made at the snapshot, held against all that he took in the range, as papers do it.

What a user wanted are the items of his positive events, each once, without those he already had. Lists are those of
`freshet recommend`: rules of the house included, in the context of his last event, the popular items for strangers. Beside
what lists are worth stands what they are like:

    novelty    mean of -log2 (positive events of the item / of all)                    Vargas and Castells, RecSys 2011
    diversity  mean over pairs of 1 - cosine, in the space of the first subject's item vectors
    coverage   share of the items on offer that are in some list                        gini: how unevenly (kernels.list_metrics)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from freshet.asking import on_offer
from freshet.evaluation.by_event import BASELINE, Subject, Terms
from freshet.evaluation.measures import list_parts, mean
from freshet.evaluation.observations import Observations
from freshet.evaluation.parting import user_slices
from freshet.head import Head
from freshet.kernels.list_metrics import gini, spread, worth
from freshet.kernels.rows import RowTable
from freshet.learner import Learner
from freshet.lists import Rules, Shelf, popular_items, shelf, top_items
from freshet.models.contract import Events
from freshet.ranked import SAMPLED, candidate_rows, history_items_of
from freshet.schema import POPULARITY

Ruled = Callable[[Subject], Rules]


@dataclass(frozen=True)
class Wanted:
    """User keys int64[m], ascending; user u wanted the item keys items[offsets[u] : offsets[u + 1]], each once."""

    users: np.ndarray
    offsets: np.ndarray
    items: np.ndarray


def wanted(head: Head, events: Events, positive: np.ndarray, history_items: int) -> Wanted:
    """What the users of the events wanted that the snapshot does not know them to have, of those it leaves something of."""
    users, own = np.unique(events.user_key[positive], return_inverse=True)
    items = RowTable({})
    pairs = own << 32 | items.insert(events.item_key[positive])
    number, had = history_items_of(head, users, history_items)
    known = items.lookup(had)
    pairs = np.setdiff1d(pairs, (number << 32 | known)[known >= 0])
    left, counts = np.unique(pairs >> 32, return_counts=True)
    return Wanted(users[left], np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), items.keys[pairs & (2**32 - 1)])


@dataclass(frozen=True)
class Listed:
    """Lists of several learners for the same users, as numbers of `keys`: int32[m, k] each, -1 at places without an item."""

    keys: np.ndarray
    lists: dict[str, np.ndarray]
    offsets: np.ndarray
    wanted: np.ndarray


def lists_of(subjects: Sequence[Subject], who: Wanted, terms: Terms, ruled: Ruled | None = None) -> Listed:
    """The lists of every subject and of popularity; `ruled` gives the rules a subject's lists keep to."""
    index = RowTable({})
    numbers, made = index.insert(who.items), {}
    for number, subject in enumerate(subjects):
        head, learner = subject.head, subject.learner
        on = _shelf(subject, who, terms, ruled(subject) if ruled else Rules())
        spec = learner.spec.metrics
        lists = top_items(head, learner.model, on, who.users, terms.k, spec.history_items)
        there = np.arange(terms.k) < lists.length[:, None]
        made[subject.name] = _numbered(index, lists.items, there)
        if not number:
            rows = popular_items(head, on, who.users, terms.k, spec.history_items)
            baseline = _numbered(index, head.tables[POPULARITY].keys[rows], rows >= 0)
    return Listed(index.keys.copy(), {**made, BASELINE: baseline}, who.offsets, numbers)


def _numbered(index: RowTable, keys: np.ndarray, there: np.ndarray) -> np.ndarray:
    found = np.full(keys.shape, -1, np.int32)
    found[there] = index.insert(keys[there])
    return found


def _shelf(subject: Subject, who: Wanted, terms: Terms, rules: Rules) -> Shelf:
    """All items of the snapshot, or a sample with those that somebody wanted; equal scores by key, as ranks settle them."""
    head, spec = subject.head, subject.learner.spec.metrics
    keys = head.tables[POPULARITY].keys
    if terms.candidates is not None:
        few = replace(spec, max_items=terms.candidates, seed=terms.seed)
        sample = candidate_rows(keys, head.lookup(POPULARITY, who.items), few)
        added = np.full(len(keys), np.nan, np.float32)
        added[sample] = 0.0 if rules.added is None else rules.added[sample]
        rules = replace(rules, added=added)
    return shelf(head, subject.learner.model, spec.half_lives, np.argsort(np.argsort(keys)), rules, spec.segment)


def listed(
    subjects: Sequence[Subject], who: Wanted, terms: Terms, ruled: Ruled | None = None, judged: bool = True
) -> tuple[Observations, dict[str, dict[str, float]]]:
    """What the lists are worth, where `judged`, and like; and what is told of all lists of a learner together."""
    first = subjects[0]
    found = lists_of(subjects, who, terms, ruled)
    items = len(first.head.tables[POPULARITY])
    suffix = SAMPLED if terms.candidates is not None and terms.candidates < items else ""
    unit, surprise = _vectors(first, found.keys), _surprise(first.head, found.keys)
    parts, whole = {}, {}
    for name, lists in found.lists.items():
        there, k = lists >= 0, terms.k
        told = np.where(there, surprise[lists], 0.0).sum(axis=1) / np.where(there.any(axis=1), there.sum(axis=1), np.nan)
        like = {f"novelty@{k}": mean(told)}
        if unit.any():
            like[f"diversity@{k}"] = mean(spread(lists, unit))
        value = list_parts(worth(lists, found.offsets, found.wanted, len(found.keys)), k, suffix) if judged else {}
        parts[name] = {**value, **like}
        shown = np.bincount(lists[there], minlength=len(found.keys))
        every = np.concatenate([shown[shown > 0], np.zeros(max(items - int((shown > 0).sum()), 0), np.int64)])
        whole[name] = {f"coverage@{k}": float((shown > 0).sum() / max(items, 1)), f"gini@{k}": gini(every)}
    return Observations(who.users, parts, user_slices(first.head, who.users)), whole


def _vectors(subject: Subject, keys: np.ndarray) -> np.ndarray:
    """float32[n, d] of length 1, zeros for items without a vector."""
    head, model = subject.head, subject.learner.model
    spec = subject.learner.spec.metrics
    row = head.lookup(POPULARITY, keys)
    known = row >= 0
    vectors = on_offer(head, model, row[known], spec.half_lives).vectors
    found = np.zeros((len(keys), vectors.shape[1]), np.float32)
    found[known] = vectors
    length = np.linalg.norm(found, axis=1, keepdims=True)
    return np.asarray(found / np.where(length > 0.0, length, np.float32(1.0)), np.float32)


def _surprise(head: Head, keys: np.ndarray) -> np.ndarray:
    """float64[n]: bits of surprise of an item; one without an event is as rare as one with a single event."""
    count = head.tables[POPULARITY].column("count").astype(np.float64)
    row = head.lookup(POPULARITY, keys)
    own = np.where(row >= 0, np.maximum(count[row], 1.0), 1.0) if len(count) else np.ones(len(keys))
    return np.asarray(np.log2(max(count.sum(), 1.0) / own))


def lists_worth(head: Head, learner: Learner, events: Events, k: int = 10) -> dict[str, float]:
    """Metric -> mean over users of the model's lists of k, without rules, against what they took in these events."""
    subject = Subject(learner.model.name, head, learner)
    who = wanted(head, events, learner.model.positive(events), learner.spec.metrics.history_items)
    return listed([subject], who, Terms(k))[0].values()[subject.name]
