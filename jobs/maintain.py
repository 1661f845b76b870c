"""Job: compact, remove orphans, apply the retention.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/maintain.py --config shop.yaml

Options and exit codes are those of `freshet maintain`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("maintain", sys.argv[1:]))
