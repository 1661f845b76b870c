"""The same events give the same digest whatever runs them: one core or two, threads or processes, driver or executors."""

from __future__ import annotations

import pytest
from processes import QUICK_START, start

from freshet.pipelines.totals import totals

pytestmark = [pytest.mark.spark, pytest.mark.slow]

MASTERS = [
    ("local[1]", ()),
    ("local-cluster[2,1,1024]", ("stream.placement=executors", f"spark.conf={{{QUICK_START}, spark.executor.memory: 1g}}")),
]


def test_the_digest_does_not_depend_on_the_master(site, new_site) -> None:
    site.write(240, 120)
    site.train()
    for number, (master, sets) in enumerate(MASTERS):
        other = new_site(f"other{number}")
        other.write(240, 120)
        process = start(other, "process", "--available-now", sets=(f"spark.master={master}", *sets))
        assert process.code() == 0, process.text()
        assert (other.digest(), totals(other.snapshots())) == (site.digest(), totals(site.snapshots())), master
        [recorded] = {row["settings"] for row in other.sql("select settings from snapshots where kind = 'learn'")}
        assert master in recorded
    assert "executors" in recorded
