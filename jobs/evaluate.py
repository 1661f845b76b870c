"""Job: judge a version on events it has not learned.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/evaluate.py --config shop.yaml --version 120

Options and exit codes are those of `freshet evaluate`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("evaluate", sys.argv[1:]))
