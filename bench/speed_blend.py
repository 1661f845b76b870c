"""What the default model costs beside `mf`: catching up with micro-batches of 200,000 events, everything on, and its kernel.

Two learners of one session take the same Parquet files in turn. The kernel: a pass of sampled softmax (32 factors, 16
drawn items, 16 newest items) over random ids with the shape of MovieLens 20M's items, on one core, rows in place.
"""

from __future__ import annotations

import numpy as np
from event_files import EventFiles
from figures import Figure, Options, Result, core_seconds, middle, ratio, shown, stage_table
from speed_catchup import ROWS, WARM
from streams import side_by_side

from freshet.models import make_model
from freshet.models.contract import ShardTask
from freshet.settings import load

ITEMS = 26_744
EVENTS = 400_000


def measure(options: Options) -> Result:
    """The stream, then the kernel."""
    result = Result(" ".join((__doc__ or "").split()))
    count = WARM + options.pairs(10, 3)
    files = EventFiles(count, ROWS, "parquet", seed=options.seed)
    models = {name: [f"model.name={name}"] for name in ("mf", "blend")}
    fed = side_by_side(options.folder("blend"), files, count, WARM, models)
    ours, theirs = ([one.seconds for one in fed[name]] for name in ("blend", "mf"))
    result.figures.append(ratio("blend.catchup", "events a second of blend over those of mf, micro-batches of 200,000", theirs, ours))
    speed = [EVENTS / core_seconds(task) for task in _passes(options)]
    value, low, high = middle([one / 1e6 for one in speed])
    result.figures.append(Figure("blend.kernel", "million events a second of its kernel on one core", value, low, high,
                                 f"{shown(float(np.median(speed)))} events a second, {len(speed)} passes"))
    result.tables.append(stage_table("Stages of a micro-batch of 200,000 events", {
        name: [one.stages | {"whole trigger": one.seconds} for one in laps] for name, laps in fed.items()}, 1.0, "s"))
    return result


def _passes(options: Options) -> list:
    """Calls that each learn all events once."""
    model, rng = make_model(load([], {}, ["model.name=history"])[0].model), np.random.default_rng(options.seed)
    rows = {}
    for block in model.blocks():
        rows[block.name] = np.zeros((ITEMS, block.width + block.slots), np.float32)
        rows[block.name][:, : block.width] = rng.normal(0, block.init_scale, (ITEMS, block.width))
    drawn = lambda many: (ITEMS * rng.random((EVENTS, many)) ** 3).astype(np.int32)
    refs = {"item": drawn(1 + model.negatives), "past": drawn(model.recent)}
    ones = np.ones(EVENTS, np.float32)
    task = ShardTask(rows, {}, refs, ones, ones)
    model.learn(task)
    return [lambda: model.learn(task)] * options.pairs(10, 3)
