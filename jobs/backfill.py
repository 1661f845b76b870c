"""Job: learn old events of the source in the order of their times.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/backfill.py --config shop.yaml --from 2026-09-01 --to ...

Options and exit codes are those of `freshet backfill`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("backfill", sys.argv[1:]))
