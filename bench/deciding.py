"""What deciding costs. The gate: catching up with micro-batches of 200,000 events, the published version in memory and scored
with the head, beside a learner that publishes every version; two learners of one session take the same files in turn. A challenger:
the same with micro-batches of 1,000 events, one of the two with a second learner of other settings beside the default model.
Publishing and rolling back: a model of a million rows, by a learner that runs, from the request it takes up to the last commit
and the head of then; seconds, on a machine of the size above.
"""

from __future__ import annotations

import time

from event_files import EventFiles
from figures import Figure, Options, Result, middle, ratio, stage_table
from restart import MODEL, ROWS, make
from speed_catchup import ROWS as EVENTS
from speed_catchup import WARM
from streams import session, settings, side_by_side

from freshet.pipelines.gating import Gate, settle_published
from freshet.pipelines.publishing import publish
from freshet.pipelines.rolling import roll_back
from freshet.pipelines.starting import open_learner

SMALL = 1_000
LEARNERS = {"alone": [], "challenged": ["challengers.learners.quick=[model.optimizer.learning_rate=0.2]"]}
GATES = {name: [f"gate.publish={name}"] for name in ("head", "judged")}


def measure(options: Options) -> Result:
    """The gate, then the commands."""
    result = Result(" ".join((__doc__ or "").split()))
    count = WARM + options.pairs(10, 3)
    files = EventFiles(count, EVENTS, "parquet", seed=options.seed)
    fed = side_by_side(options.folder("deciding"), files, count, WARM, GATES)
    ours, plain = ([one.seconds for one in fed[name]] for name in ("judged", "head"))
    result.figures.append(ratio("deciding.gate", "a micro-batch of 200,000 events with the gate over one without", ours, plain))
    result.tables.append(stage_table("Stages of a micro-batch of 200,000 events", {
        name: [one.stages | {"whole trigger": one.seconds} for one in laps] for name, laps in fed.items()}, 1.0, "s"))
    result.figures.append(_challenged(options))
    rows, laps = _commands(options)
    for name, seconds in laps.items():
        value, low, high = middle(seconds)
        result.figures.append(Figure(f"deciding.{name}", f"seconds of {name} on {rows:,} rows", value, low, high, f"{len(seconds)} times"))
    return result


def _challenged(options: Options) -> Figure:
    count = WARM + options.pairs(40, 8)
    files = EventFiles(count, SMALL, "parquet", seed=options.seed)
    fed = side_by_side(options.folder("challenged"), files, count, WARM, LEARNERS)
    ours, plain = ([one.seconds for one in fed[name]] for name in ("challenged", "alone"))
    return ratio("deciding.challenger", "a micro-batch of 1,000 events with a challenger over one without", ours, plain)


def _commands(options: Options) -> tuple[int, dict[str, list[float]]]:
    folder = options.folder("commands")
    made = settings(folder, *MODEL, "gate.publish=manual")
    rows = make(folder, options.pairs(ROWS, ROWS // 10), made, options.seed)
    found: dict[str, list[float]] = {"publish": [], "rollback": []}
    with open_learner(session(), made, False, lambda _: None) as opened:
        settle_published(opened)
        learned = [row.version for row in opened.history.live() if row.kind == "learn"]
        Gate(opened)
        for _ in range(options.pairs(5, 2)):
            for name in found:
                start = time.perf_counter()
                if name == "publish":
                    publish(opened.writer, made, version=learned[-2], actor="bench", reason="bench", force=True)
                else:
                    roll_back(opened, to=learned[-2], actor="bench", reason="bench")
                Gate(opened)  # the published version is in memory again
                found[name].append(time.perf_counter() - start)
    return rows, found

