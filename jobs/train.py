"""Job: learn from the source, for ever or until caught up.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/train.py --config shop.yaml --available-now

Options and exit codes are those of `freshet train`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("train", sys.argv[1:]))
