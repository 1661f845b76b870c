"""docs/path.md: one event followed through every stage, with the numbers the code computes.

    python -m freshet.path_doc > docs/path.md
"""

from __future__ import annotations

import numpy as np
import xxhash

from freshet.companions import advance
from freshet.head import Head, digests
from freshet.intake import admit, events_of
from freshet.kernels.digest import as_hex
from freshet.kernels.shards import shard_of
from freshet.learner import Learned, Learner
from freshet.models import make_model
from freshet.models.contract import ITEM, USER, ShardTask
from freshet.pipelines.assembly import dedup_window, new_head, new_learner
from freshet.settings import Settings, load
from freshet.workspace import Workspace

AT = 1_735_689_600_000_000  # 2025-01-01 00:00:00 UTC
# (event id, user, item, value, seconds after AT): two users of different shards rate one item, one of them twice.
BEFORE = [("e1", "ada", "tin drum", 4.0, 0), ("e2", "bo", "tin drum", 3.0, 30)]
BATCH = [("e3", "ada", "blue sail", 5.0, 60), ("e4", "ada", "tin drum", 5.0, 61), ("e5", "bo", "tin drum", 1.0, 62)]
FOLLOWED = 1  # e4


def key(text: str, seed: int = 42) -> int:
    """int64 xxhash64 of a text, as Spark's."""
    value = xxhash.xxh64_intdigest(text.encode(), seed=seed)
    return value - 2**64 if value >= 2**63 else value


def columns(rows: list[tuple[str, str, str, float, int]]) -> dict[str, np.ndarray]:
    """What cleaning hands on for these events (the second hashes by another seed, for show)."""
    at = np.array([AT + row[4] * 1_000_000 for row in rows])
    texts = {"user": [row[1] for row in rows], "item": [row[2] for row in rows], "event": [row[0] for row in rows]}
    found = {f"{name}_key": np.array([key(text) for text in texts[name]]) for name in ("user", "item")}
    found |= {f"{name}_check": np.array([key(text, 7) for text in texts[name]]) for name in ("user", "item")}
    found |= {"event_hash": np.array([key(text) for text in texts["event"]])}
    found |= {"features": np.empty((len(rows), 0), np.int64), "dedup_key": found["event_hash"], "event_at": at, "arrived_at": at + 500_000}
    return found | {"value": np.array([row[3] for row in rows]), "weight": np.ones(len(rows))}


def learn(head: Head, learner: Learner, settings: Settings, rows: list[tuple[str, str, str, float, int]]) -> Learned:
    """Admit and learn events, not yet taken by the head."""
    admitted = admit(head, columns(rows), dedup_window(settings), 0)
    return learner.learn(head, admitted.events, lambda tasks: [learner.model.learn(task) for task in tasks])


def vector(row: np.ndarray) -> str:
    """A row as text."""
    return "[" + ", ".join(f"{value:+.4f}" for value in row) + "]"


class Walk:
    """The small world of the page: a head after two events, and the three events of the micro-batch."""

    def __init__(self) -> None:
        self.settings = load([], {}, ["model.name=mf", "model.factors=2", "model.init_scale=0.5"])[0]
        self.learner = new_learner(self.settings)
        self.head = new_head(self.learner.model, self.settings)
        before = learn(self.head, self.learner, self.settings, BEFORE)
        self.head.apply(before.changes, before.digest)
        self.head.clock = AT + 30_000_000
        self.columns = columns(BATCH)
        self.events = events_of(self.columns, np.arange(len(BATCH)))
        self.shards = shard_of(self.events.user_key, self.settings.model.shards)

    def task(self, chosen: list[int]) -> ShardTask:
        """The task of a shard that holds these events."""
        model = self.learner.model
        context = advance(self.head, self.events, model.positive(self.events), self.learner.spec.companions).context
        space = Workspace(self.head, model.blocks(), model.examples(self.events, context), self.settings.model.seed)
        return space.task(np.array(chosen))[0]

    def row(self, block: str, natural_id: str) -> np.ndarray:
        """A row of the head."""
        return np.array(self.head.values(block)[self.head.lookup(block, np.array([key(natural_id)]))[0]])


def markdown() -> str:
    """The whole page."""
    walk = Walk()
    numbers = {**by_hand(), **identity(walk), **in_shards(walk), **committed(walk)}  # in this order: the last changes the head
    return PAGE.format(**numbers)


def identity(walk: Walk) -> dict[str, object]:
    """Keys, and the rows of the snapshot before with the score they give."""
    ada, tin, mean = walk.row(USER, "ada"), walk.row(ITEM, "tin drum"), float(walk.head.values("mean")[0, 0])
    return {
        "user_key": key("ada"), "item_key": key("tin drum"), "event_hash": key("e4"), "shard": int(walk.shards[FOLLOWED]),
        "other": int(walk.shards[2]), "ada": vector(ada), "tin": vector(tin), "mean": f"{mean:.4f}",
        "served": f"{mean + ada[0] + tin[0] + float(ada[1:3] @ tin[1:3]):.4f}",
    }


def in_shards(walk: Walk) -> dict[str, object]:
    """What the two shards make of *tin drum*, each for itself."""
    mine = [number for number in range(len(BATCH)) if walk.shards[number] == walk.shards[FOLLOWED]]
    before = walk.learner.model.learn(walk.task(mine)).prediction[mine.index(FOLLOWED)]
    return {
        "before": f"{before:.4f}", "error": f"{5.0 - before:+.4f}",
        "a_here": f"{contraction(walk, mine):.4f}", "a_there": f"{contraction(walk, [2]):.4f}",
        "here": vector(shard_row(walk, mine)), "there": vector(shard_row(walk, [2])),
    }


def committed(walk: Walk) -> dict[str, object]:
    """The merged row, what was changed, the digests before and after."""
    before, after = walk.head.hex_digest, learn(walk.head, walk.learner, walk.settings, BATCH)
    walk.head.apply(after.changes, after.digest)
    rows = after.changes[ITEM][0]
    at = int(np.flatnonzero(rows.keys == key("tin drum"))[0])
    counted = ", ".join(f"{name} {len(changed)}" for name, (changed, _) in sorted(after.changes.items()))
    return {
        "merged": vector(walk.row(ITEM, "tin drum")), "digest_before": before, "digest": as_hex(after.digest),
        "row_digest": as_hex(int(digests(walk.head.blocks[ITEM], rows)[at])), "changed": counted,
        "history": ", ".join(history(walk.head)),
    }


def contraction(walk: Walk, chosen: list[int]) -> float:
    """Contraction of the row of `tin drum` in the shard that learned these events."""
    result = walk.learner.model.learn(walk.task(chosen))
    return float(result.contraction[ITEM][_item(walk, chosen)])


def shard_row(walk: Walk, chosen: list[int]) -> np.ndarray:
    """The row of `tin drum` as the shard that learned these events left it."""
    return np.asarray(walk.learner.model.learn(walk.task(chosen)).rows[ITEM][_item(walk, chosen)])


def _item(walk: Walk, chosen: list[int]) -> int:
    at = next(place for place, number in enumerate(chosen) if BATCH[number][2] == "tin drum")
    return int(walk.task(chosen).refs[ITEM][at, 0])


def history(head: Head) -> list[str]:
    """ada's recent items, oldest first."""
    names = {key(row[2]): row[2] for row in BEFORE + BATCH}
    rows, _ = head.gather("history", np.array([key("ada")]))
    return [names[item] for item in rows.links[0, : rows.filled[0]].tolist()]


def one_step(loss: str, target: float, weights: tuple[float, float, float]) -> tuple[float, tuple[float, float, float]]:
    """(score before, weights afterwards) of the constant, ada and tin drum in model `linear`, by one step of .1."""
    model = make_model(load([], {}, ["model.name=linear", f"model.loss={loss}", "model.optimizer.name=sgd", "model.optimizer.bias_rate=.1"])[0].model)
    rows = {block.name: np.array([[weight]], np.float32) for block, weight in zip(model.blocks(), weights, strict=True)}
    none, first, one = np.zeros(1, np.int64), np.zeros((1, 1), np.int32), np.ones(1, np.float32)
    made = model.learn(ShardTask(rows, dict.fromkeys(rows, none), dict.fromkeys(rows, first), target * one, one))
    constant, ada, tin = (float(made.rows[name][0, 0]) for name in rows)
    return float(made.prediction[0]), (constant, ada, tin)


def by_hand() -> dict[str, object]:
    """The numbers of the two updates that the page ends with."""
    score, step = one_step("squared", 1.0, (0.0, 0.5, -0.2))
    zero, clicked = one_step("logistic", 1.0, (0.0, 0.0, 0.0))
    one, passed = one_step("logistic", 0.0, clicked)
    chances = [float(1 / (1 + np.exp(-s))) for s in (zero, one, sum(passed))]
    return {
        "step_score": f"{score:.2f}", "step_gradient": f"{score - 1:+.2f}", "step_weights": vector(np.array(step)),
        "step_after": f"{sum(step):.2f}", "step_left": f"{sum(step) - 1:+.2f}", "clicked": vector(np.array(clicked)),
        "clicked_score": f"{one:.2f}", "passed_score": f"{sum(passed):.2f}", "passed": vector(np.array(passed)), "passed_gradient": f"{chances[1]:+.4f}",
        "chance_before": f"{chances[0]:.4f}", "chance_clicked": f"{chances[1]:.4f}", "chance_passed": f"{chances[2]:.4f}",
    }


PAGE = """# One event, stage by stage

The numbers on this page are computed by the code: `python -m freshet.path_doc > docs/path.md`. The model is `mf` with two
factors (initial rows drawn wide, to be visible). It has learned two ratings so far, ada's 4 and bo's 3 of *tin drum*. Now
a micro-batch of three arrives: ada gives *blue sail* 5 and, a second later, *tin drum* 5; bo gives *tin drum* 1. We follow
ada's rating of *tin drum*.

## 1. Source and clean

```
{{"event_id": "e4", "user_id": "ada", "item_id": "tin drum", "event_type": "rating", "value": 5, "event_at": "2025-01-01T00:01:01Z"}}
```

Spark reads the line and asks the rules, in order: does it parse, are the ids there and not too long, is the value a finite
number in range, is the time plausible, is the type known? The first rule that says no names the reason in `quarantine`.
This one passes. Spark hashes the ids on the way; the keys are the same in SQL, in Python and in serving:

| what | number |
|---|---|
| user key, `xxhash64('ada')` | {user_key} |
| item key, `xxhash64('tin drum')` | {item_key} |
| event hash, `xxhash64('e4')` | {event_hash} |
| shard, `pmod(user key, 8)` | {shard} |

## 2. Admit

The driver knows the event clock, the events of the dedup window and the ids it has met. The event is not older than the
window (late), not seen before (duplicate), and the second hash of its ids fits (no collision): accepted.

## 3. Score, as it would have been served

With the snapshot before the micro-batch:

| row | vector |
|---|---|
| mean | {mean} |
| user ada, [bias, factors] | {ada} |
| item tin drum, [bias, factors] | {tin} |

score = mean + both biases + factors . factors = **{served}**. The *served* error is 5 - {served}; its square goes into the
metric `rmse, served`.

## 4. Learn, in a shard

Ada's events are in shard {shard}, bo's in shard {other}. Shard {shard} takes private copies of the rows and goes through its events in
order. After *blue sail*, ada's row has moved, so just before our event is learned the score is **{before}**: that is the
*sequential* score. The error is {error}; the step `rate * error` moves both biases and both vectors. *Tin drum* afterwards:

| | row of tin drum | contraction a |
|---|---|---|
| before | {tin} | |
| as shard {shard} (ada) left it | {here} | {a_here} |
| as shard {other} (bo) left it | {there} | {a_there} |

The contraction says how far the shard's pass took the row's own residual away: `rate * (1 + |p|^2)` for each event.

## 5. Merge

Two shards changed *tin drum*, so their changes are combined in shard order, in float64:

```
A = sum a_p        merged = before + (1 - exp(-A)) / A * sum a_p / (1 - exp(-a_p)) * (row_p - before)
```

merged: {merged}. Ada's and bo's own rows were touched by one shard each and are taken as they
are, bit for bit.

## 6. Guard, commit

All changed rows are finite and no row hit the norm cap. Rows changed, by block: {changed}.
They are appended to `parameters`, the events to `events`, at the same time; then one row is appended to `snapshots`, and
that row is the commit.
The digest of the row of *tin drum* is {row_digest}; the digest of the state goes from {digest_before} to **{digest}** by
folding the old digests of the changed rows out and the new ones in.

## 7. What there is now

The head takes the changes. Ada's history is {history}, so neither is recommended to her again. Every number on this page
that belongs to the state is a row of `parameters`:

```
freshet sql "select p.vector, p.count, p.snapshot_version from parameters p join ids on ids.block = 'item' and ids.key = p.key
             where p.block = 'item' and ids.natural_id = 'tin drum'"
```

## Two updates that can be checked by hand

Model `linear` gives every user, item and feature one weight; a score is the sum of the weights of what is there and of a
constant: s = w_0 + w_ada + w_tin, a score of two features. The rate is 0.1.

**One step of gradient descent.** The loss is (s - value)^2 / 2, `model.loss: squared`. Each weight is multiplied by 1 in the
score, so the derivative of the loss in each of them is s - value. The weights are [0, 0.5, -0.2] and ada's value is 1:

| | |
|---|---|
| score before | 0 + 0.5 - 0.2 = {step_score} |
| gradient in each weight | {step_score} - 1 = {step_gradient} |
| weights afterwards, each less rate * gradient | {step_weights} |
| score afterwards | {step_after} |
| error afterwards | {step_left} = {step_gradient} * (1 - 3 * 0.1) |

Three weights took a step of 0.1 each, so three tenths of the error are gone.

**One weight update after a click.** The loss is log(1 + exp(-s)) for a click and log(1 + exp(s)) for none, `model.loss:
logistic`. The chance of a click is p = 1 / (1 + exp(-s)), and the derivative in each weight is p - 1 after a click and p after
none. Nothing is known yet, so all weights are 0:

| | s | p | gradient in each weight | weights afterwards |
|---|---|---|---|---|
| ada clicks *tin drum* | 0 | {chance_before} | {chance_before} - 1 | {clicked} |
| it is shown again, no click | {clicked_score} | {chance_clicked} | {passed_gradient} | {passed} |
| shown a third time | {passed_score} | {chance_passed} | | |
"""

if __name__ == "__main__":
    print(markdown(), end="")
