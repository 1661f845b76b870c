"""What the limits cost who is not attacked: two learners of one session take the same Parquet files of 200,000 events in turn, one with
the default limits, one with none. Seconds of a micro-batch over those of the same one without.

And how near real events come to the defaults: the largest there is in public sets, by micro-batches of 20,000, learned by `blend`. A
crowd is events of young accounts on an item, from 30 on, over what one may expect; of LastFM and Beauty only the order is known.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from arrays import Arrays, chosen, events
from event_files import EventFiles
from figures import Options, Result, Stages, Table, ratio
from prequential_runs import Triples, clicks, ratings, sequences
from public_sets import NotThere
from speed_catchup import ROWS, WARM
from streams import side_by_side

from freshet.head import Head
from freshet.influence import crowds, shares
from freshet.kernels.rows import RowTable
from freshet.models.contract import Events
from freshet.rates import HOUR
from freshet.schema import HISTORY

NONE = ("limits.user_events=null", "limits.pair_events=null", "limits.user_change=null", "limits.burst=null")
SIZE = 20_000
SETS = {
    "movielens-100k": lambda data: ratings(data, "movielens-100k"), "globo-clicks": clicks,
    "LastFM": lambda data: sequences(data, "LastFM"), "Beauty": lambda data: sequences(data, "Beauty"),
}
TIMELESS = ("LastFM", "Beauty")


def measure(options: Options) -> Result:
    """A plain model, of which the limits are the largest part, and the default one; then the public sets that are there."""
    result = Result(" ".join((__doc__ or "").split()))
    count = options.pairs(WARM + 10, WARM + 3)
    for model in ("mf", "blend"):
        files = EventFiles(count, ROWS, "parquet", options.seed)
        variants = {"limits": (f"model.name={model}",), "none": (f"model.name={model}", *NONE)}
        fed = side_by_side(options.folder(model), files, count, WARM, variants)
        ours, theirs = ([one.seconds for one in fed[name]] for name in ("limits", "none"))
        what = f"{model}: seconds of a micro-batch of {ROWS:,} events with the default limits over without"
        result.figures.append(ratio(f"limits.cost.{model}", what, ours, theirs))
    rows = [["", "events of a user in an hour", "of a user and an item", "way of a user", "its events", "crowd", "touched by a limit"]]
    for name, read in SETS.items():
        try:
            rows.append([name, *_largest(read(options.data or Path()), name in TIMELESS)])
        except NotThere:
            rows.append([name, *["not there"] * 6])
    result.tables.append(Table("The largest there is", rows))
    return result


def _largest(triples: Triples, timeless: bool) -> list[str]:
    arrays, spec = Arrays(chosen("metrics.sample=8")), chosen().limits
    way, crowd, touched = (0.0, 0), 0.0, 0
    for begin in range(0, len(triples.user), SIZE):
        part = triples[slice(begin, begin + SIZE)]
        batch = events(part.user, part.item, part.value, part.at, begin)
        crowd = max(crowd, _crowd(arrays.head, batch, spec.young, spec.burst_events))
        learned = arrays.step(batch, Stages())
        way = max([way, *((mover.change, mover.events) for mover in learned.movers if mover.space == "user")])
        touched += sum(learned.limited.values())
    hours = ["-", "-"] if timeless else [
        f"{_most(triples.user, triples.at // HOUR):,}", f"{_most(triples.user, triples.item, triples.at // HOUR):,}"]
    return [*hours, f"{way[0]:,.0f}", f"{way[1]:,}", f"{crowd:.1f}", str(touched)]


def _most(*columns: np.ndarray) -> int:
    return int(np.unique(np.stack(columns, axis=1), axis=0, return_counts=True)[1].max())


def _crowd(head: Head, batch: Events, young: int, fewest: int) -> float:
    """The largest crowd of a micro-batch over what one may expect, as freshet.influence reckons."""
    items = RowTable({})
    item = items.insert(batch.item_key)
    share, rows = shares(head, items.keys), head.lookup(HISTORY, batch.user_key)
    if share is None:
        return 0.0
    before = np.where(rows >= 0, head.tables[HISTORY].column("count")[np.maximum(rows, 0)], 0)
    new, expected = crowds(item, before < young, share)
    return float((new / expected * (new >= fewest)).max())
