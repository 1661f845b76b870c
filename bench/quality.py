"""What shards and rounds cost: movielens-100k in the order of time, one pass, sequential RMSE (micro-batches of
70,000 and 30,000 events, cut into rounds).

Every event is scored just before it is learned, by the shard that learns it; each figure is the RMSE over that of one
shard (which has no rounds to lose by). `sgd` is the default of mf; adagrad and rms stand beside it, each over its own.
"""

from __future__ import annotations

from pathlib import Path

from arrays import chosen
from figures import Figure, Options, Result, Table, shown
from prequential_runs import Sums, ratings, run

SHARDS, ROUNDS, OPTIMIZERS = (1, 8, 32), (1000, 10_000), ("sgd", "adagrad", "rms")


def measure(options: Options) -> Result:
    """One run for each optimizer, number of shards and length of rounds."""
    result = Result(" ".join((__doc__ or "").split()))
    triples = ratings(options.data or Path(), "movielens-100k")
    rows = [["optimizer", "rounds", "shards", "RMSE, all events", "over one shard", "RMSE, last 30 %", "over one shard"]]
    for optimizer in OPTIMIZERS if not options.quick else ("sgd",):
        for rounds in ROUNDS:
            one: dict[str, Sums] = {}
            for shards in SHARDS:
                sets = (f"model.optimizer.name={optimizer}", f"model.shards={shards}", f"model.round_events={rounds}", "model.round_share=null")
                parts = run(triples, len(triples.user), chosen("model.name=mf", *sets))
                found = {part: sums.value("rmse", "sequential", "mf") for part, sums in parts.items()}
                one = one or found  # type: ignore[assignment]
                over = {part: found[part] / one[part] for part in found}  # type: ignore[operator]
                first, last = found
                rows.append([optimizer, f"{rounds:,}", str(shards), f"{found[first]:.4f}", f"{over[first]:.4f}",
                             f"{found[last]:.4f}", f"{over[last]:.4f}"])
                if shards > 1:
                    what = f"{optimizer}, {shards} shards, rounds of {rounds:,}: RMSE over one shard's"
                    beside = f"{found[first]:.4f} / {one[first]:.4f}; last 30 %: {shown(over[last], 5)}"
                    result.figures.append(Figure(f"quality.{optimizer}.{shards}.{rounds}", what, over[first], None, None, beside, digits=5))
    default = {shards: run(triples, len(triples.user), chosen("model.name=mf", f"model.shards={shards}")) for shards in (1, 8)}
    one, eight = (default[shards]["from 0%"].value("rmse", "sequential", "mf") for shards in (1, 8))
    result.figures.append(Figure("quality.default", "default settings (8 shards): RMSE over one shard's", eight / one, None, None,
                                 f"{eight:.4f} / {one:.4f}", digits=5))
    result.tables.append(Table("Sequential RMSE", rows))
    return result
