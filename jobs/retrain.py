"""Job: learn the events table in several passes and commit what comes out as a candidate.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/retrain.py --config shop.yaml

Options and exit codes are those of `freshet retrain`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("retrain", sys.argv[1:]))
