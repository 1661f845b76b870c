"""What the limits cost who is not attacked: two learners of one session take the same Parquet files of 200,000 events in turn, one with
the default limits, one with none. Seconds of a micro-batch over those of the same one without.
"""

from __future__ import annotations

from event_files import EventFiles
from figures import Options, Result, ratio
from speed_catchup import ROWS, WARM
from streams import side_by_side

NONE = ("limits.user_events=null", "limits.pair_events=null", "limits.user_change=null", "limits.burst=null")


def measure(options: Options) -> Result:
    """A plain model, of which the limits are the largest part, and the default one."""
    result = Result(" ".join((__doc__ or "").split()))
    count = options.pairs(WARM + 10, WARM + 3)
    for model in ("mf", "blend"):
        files = EventFiles(count, ROWS, "parquet", options.seed)
        variants = {"limits": (f"model.name={model}",), "none": (f"model.name={model}", *NONE)}
        fed = side_by_side(options.folder(model), files, count, WARM, variants)
        ours, theirs = ([one.seconds for one in fed[name]] for name in ("limits", "none"))
        what = f"{model}: seconds of a micro-batch of {ROWS:,} events with the default limits over without"
        result.figures.append(ratio(f"limits.cost.{model}", what, ours, theirs))
    return result
