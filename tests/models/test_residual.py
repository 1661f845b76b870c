"""Vectors that learn what the counts leave over."""

from __future__ import annotations

import numpy as np
from planted import ITEM_KEYS, ITEMS
from test_cooccurrence import chain, learned

from freshet.asking import ask
from freshet.companions import advance
from freshet.models.blend import MIXES
from freshet.models.contract import ITEM, Mix

RESIDUAL = "model.residual=0.5"


def test_offsets_are_what_the_counts_of_the_snapshot_give() -> None:
    lab = learned("blend", RESIDUAL)
    events, model, head = chain(200, start=1800), lab.learner.model, lab.head
    context = advance(head, events, model.positive(events), lab.learner.spec.companions).context
    made = model.examples(events, context)
    asked = ask(head, model, events.user_key, context.recent, context.length, events.features)
    extras = model.extras(asked)
    for e, event in enumerate(made.event.tolist()):
        mine = slice(extras.offsets[event], extras.offsets[event + 1])
        scores = dict(zip(extras.keys[mine].tolist(), extras.values[mine].tolist(), strict=True))
        wanted = [0.5 * scores.get(key, 0.0) for key in made.keys[ITEM][e].tolist()]
        np.testing.assert_allclose(made.offset[e], wanted, rtol=1e-5)
    # The planted chain: what came next was counted more than what was drawn.
    assert made.offset[:, 0].mean() > 1.0 + made.offset[:, 1:].mean()


def margin(lab) -> float:
    """By how much query . vector puts what follows an item above the other items."""
    model, views = lab.learner.model, {block.name: lab.head.view(block.name) for block in lab.learner.model.blocks()}
    recent = np.zeros((ITEMS, model.recent), np.int64)
    recent[:, 0] = ITEM_KEYS
    nobody, one = np.zeros(ITEMS, np.int64), np.ones(ITEMS, np.int32)
    queries = model.queries(ask(lab.head, model, nobody, recent, one, np.zeros((ITEMS, 0), np.int64)))
    scores = queries @ model.item_matrix(views, {ITEM: lab.head.lookup(ITEM, ITEM_KEYS)})[0].T
    return float(scores[np.arange(ITEMS), (np.arange(ITEMS) + 1) % ITEMS].mean() - scores.mean())


def test_vectors_learn_less_of_what_is_counted_already() -> None:
    """One follower an item is all there is to know of a chain; what the counts say of it the vectors need not."""
    alone, beside = learned("blend"), learned("blend", "model.residual=2")
    assert 0.3 < margin(beside) / margin(alone) < 0.75
    assert alone.learner.model.mixes == MIXES and beside.learner.model.mixes == (Mix(1.0, 2.0, 1.0), *MIXES)
