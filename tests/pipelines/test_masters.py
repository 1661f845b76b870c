"""The same events give the same digest whatever runs them: threads or processes, driver or executors. (One core or two: test_kills,
whose processes have one.)"""

from __future__ import annotations

import pytest
from processes import QUICK_START, start

from freshet.pipelines.totals import totals

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MASTER = "local-cluster[2,1,1024]"
SETS = (f"spark.master={MASTER}", "stream.placement=executors", f"spark.conf={{{QUICK_START}, spark.executor.memory: 1g}}")


@pytest.mark.soak
def test_the_digest_does_not_depend_on_the_master(site, new_site) -> None:
    site.write(240, 120)
    site.train()
    other = new_site("other")
    other.write(240, 120)
    process = start(other, "process", "--available-now", sets=SETS)
    assert process.code() == 0, process.text()
    assert (other.digest(), totals(other.snapshots())) == (site.digest(), totals(site.snapshots()))
    [recorded] = {row["settings"] for row in other.sql("select settings from snapshots where kind = 'learn'")}
    assert MASTER in recorded and "executors" in recorded
