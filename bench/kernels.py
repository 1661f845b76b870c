"""The learning kernels on one core, on random ids with the shape of MovieLens 20M (138,493 users, 26,744 items).

A pass over the events in arrays, rows in place, as a shard learns them, with each model's own optimizer; against it a
plain numpy loop over the first of the same events that does the same work (checked), and one that does the bare updates
of sgd only; beside it other projects' learners on one thread. Passes and loops take turns; seconds are the processor's.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy_loops
import peers
from figures import Figure, Options, Result, Table, core_seconds, middle, shown

from freshet.demo.shapes import Shaped, shaped
from freshet.models import make_model
from freshet.models.contract import ITEM, USER, Model, ShardTask
from freshet.settings import load

LOOPED = 10_000  # events of a numpy loop in one turn
COMPARED = 2000  # events after which loop and kernel must still agree


def measure(options: Options) -> Result:
    """Both models, 16 and 32 factors."""
    result = Result(" ".join((__doc__ or "").split()))
    shape = shaped(events=options.pairs(4_000_000, 1_000_000), seed=options.seed)
    speeds: dict[str, float] = {}
    for factors in (16, 32):
        for name in ("mf", "bpr"):
            speeds[f"{name}.{factors}"] = _pair(name, factors, shape, options, result)
    _beside(options, speeds, result)
    return result


def _pair(name: str, factors: int, shape: Shaped, options: Options, result: Result) -> float:
    settings = load([], {}, [f"model.name={name}", f"model.factors={factors}"])[0].model
    model = make_model(settings)
    other = np.random.default_rng(options.seed).permutation(shape.item)
    other = np.where(other == shape.item, (other + 1) % (shape.item.max() + 1), other)
    task = _task(model, shape, other)
    steps = numpy_loops.Steps(model.step, model.bias_step, model.limit)  # type: ignore[attr-defined]
    same, bare = numpy_loops.LOOPS[name]
    _check(model, task, same, steps)
    ours, theirs, bares = [], [], []
    for _ in range(options.pairs(15, 5)):
        ours.append(len(shape.user) / core_seconds(lambda: model.learn(task)))
        theirs.append(LOOPED / core_seconds(lambda: same(task, LOOPED, steps)))
        bares.append(LOOPED / core_seconds(lambda: bare(task, LOOPED, steps)))
    for key, what, slow in (("kernel", "a numpy loop that does the same", theirs), ("bare", "a numpy loop of bare sgd updates", bares)):
        value, low, high = middle([a / b for a, b in zip(ours, slow, strict=True)])
        million = [shown(float(np.median(speed)) / 1e6) for speed in (ours, slow)]
        beside = f"{million[0]} / {million[1]} million events a second, {len(ours)} pairs"
        result.figures.append(Figure(f"{key}.{name}.{factors}", f"{name}, k={factors}, over {what}", value, low, high, beside))
    return float(np.median(ours))


def _check(model: Model, task: ShardTask, loop: Callable[..., tuple[np.ndarray, np.ndarray]], steps: numpy_loops.Steps) -> None:
    """Loop and kernel must do the same work, or their ratio says nothing; this also compiles."""
    mine, its = _few(task), _few(task)
    learned = model.learn(mine)
    prediction, loss = loop(its, COMPARED, steps)
    if not (np.allclose(learned.prediction, prediction, atol=1e-4) and np.allclose(learned.loss, loss, atol=1e-4)):
        raise AssertionError("the numpy loop learns something else than the kernel")


def _task(model: Model, shape: Shaped, other: np.ndarray) -> ShardTask:
    """All events as one shard's task on fresh rows; `other` are the negatives."""
    rng = np.random.default_rng(0)
    rows, refs = {}, {}
    for block in model.blocks():
        size = {USER: int(shape.user.max()) + 1, ITEM: int(shape.item.max()) + 1}.get(str(block.ids), 1)
        rows[block.name] = np.zeros((size, block.width + block.slots), np.float32)
        rows[block.name][:, block.zeros: block.width] = rng.normal(0, block.init_scale, (size, block.width - block.zeros))
        number = {USER: shape.user, ITEM: shape.item}.get(str(block.ids), np.zeros(len(shape.user), np.int64))
        columns = [number] if block.ids != ITEM or not model.negatives else [number, other]
        refs[block.name] = np.ascontiguousarray(np.stack(columns, axis=1).astype(np.int32))
    counts = {name: np.zeros(len(values), np.int64) for name, values in rows.items()}
    target = shape.value if not model.negatives else np.ones(len(shape.user), np.float32)
    return ShardTask(rows, counts, refs, target, np.ones(len(target), np.float32))


def _few(task: ShardTask) -> ShardTask:
    """A copy of the first events, on rows of their own."""
    refs = {name: refs[:COMPARED] for name, refs in task.refs.items()}
    rows = {name: rows.copy() for name, rows in task.rows.items()}
    return ShardTask(rows, task.counts, refs, task.target[:COMPARED], task.weight[:COMPARED])


def _beside(options: Options, speeds: dict[str, float], result: Result) -> None:
    repeats = options.pairs(5, 2)
    big, small = shaped(events=options.pairs(4_000_000, 500_000), seed=options.seed), shaped(events=20_000, seed=options.seed)
    rows = [["learner", "k", "million events a second", "ours is that many times as fast"]]
    for factors in (16, 32):
        ours = [("mf", speeds[f"mf.{factors}"]), ("bpr", speeds[f"bpr.{factors}"])]
        rows += [[f"Freshet {name} (kernel, one core)", str(factors), shown(speed / 1e6), "1"] for name, speed in ours]
        for what, model, measured in (
            ("implicit BPR (one thread)", "bpr", peers.implicit_bpr(big, factors, repeats)),
            ("River BiasedMF", "mf", peers.repeated(peers.river_mf, small, factors, repeats)),
        ):
            if isinstance(measured, str):
                rows.append([what, str(factors), measured, ""])
                continue
            speed = float(np.median(measured))
            rows.append([what, str(factors), shown(speed / 1e6), shown(speeds[f"{model}.{factors}"] / speed)])
    result.tables.append(Table("Beside other projects, one core each", rows))
