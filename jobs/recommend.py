"""Job: write lists of recommendations, or print one user's.

    spark-submit --packages io.delta:delta-spark_4.2_2.13:4.4.0 jobs/recommend.py --config shop.yaml --all -n 50

Options and exit codes are those of `freshet recommend`: arguments -> settings -> Spark session -> one library call.
"""

from __future__ import annotations

import sys

from freshet.cli import job

if __name__ == "__main__":
    sys.exit(job("recommend", sys.argv[1:]))
