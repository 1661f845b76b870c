"""Job: learn again from the events table and compare digests.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/replay.py --config shop.yaml --verify

Options and exit codes are those of `freshet replay`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("replay", sys.argv[1:]))
