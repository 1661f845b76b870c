"""Every number of a score has a row, and every row the versions that made it."""

from __future__ import annotations

import json

import pytest
from sites import Site

from freshet.errors import FreshetError
from freshet.pipelines.explain import explain, in_words
from freshet.pipelines.recommend import recommend_user


@pytest.fixture(scope="module")
def site(spark, tmp_path_factory) -> Site:
    made = Site(spark, tmp_path_factory.mktemp("explain"), ["model.features.context=[device]"])
    made.write()
    made.train()
    return made


@pytest.fixture(scope="module")
def user(site) -> str:
    return site.sql("select user_id from events group by 1 order by count(*) desc, 1 limit 1")[0]["user_id"]


def test_a_score_is_the_sum_of_its_parts_and_that_of_the_list(site, user) -> None:
    for place in recommend_user(site.spark, site.settings(), user=user, n=3):
        found = explain(site.spark, site.settings(), user=user, item=place["item_id"])
        assert found["score"] == pytest.approx(place["score"], rel=1e-4)
        assert found["score"] == pytest.approx(sum(part["amount"] for part in found["parts"]))
        assert {part["what"] for part in found["parts"]} >= {"bias", "had", "context"}
        assert found["known_user"] and json.loads(json.dumps(found)) == found


def test_every_part_names_its_row_and_who_changed_it(site, user) -> None:
    item = recommend_user(site.spark, site.settings(), user=user, n=1)[0]["item_id"]
    found = explain(site.spark, site.settings(), user=user, item=item)
    had = {row["item_id"] for row in site.sql(f"select item_id from events where user_id = '{user}'")}
    assert {part["of"] for part in found["parts"] if part["what"] == "had"} <= had
    assert {part["of"].split("=")[0] for part in found["parts"] if part["what"] == "context"} == {"device"}
    everything = site.sql("select block, key, snapshot_version as version, count from parameters_log order by version desc")
    for part in found["parts"]:
        logged = [row for row in everything if (row["block"], row["key"]) == (part["block"], part["key"])]
        assert [one["version"] for one in part["changed"]] == [row["version"] for row in logged[:3]]
        assert part["changed"][0]["so_far"] == logged[0]["count"]
    text = in_words(found)
    assert user in text and item in text and "device=" in text and "last changed by version" in text


def test_rules_of_lists_are_parts_too(site, user) -> None:
    item = recommend_user(site.spark, site.settings(), user=user, n=1)[0]["item_id"]
    boosted = site.settings(f"lists.boost_items={{{item}: 0.25}}")
    [place] = recommend_user(site.spark, boosted, user=user, n=1)
    found = explain(site.spark, boosted, user=user, item=item)
    assert place["item_id"] == item and found["score"] == pytest.approx(place["score"], rel=1e-4) and found["listed"]
    assert [part["amount"] for part in found["parts"] if part["what"] == "boost"] == [pytest.approx(0.25)]
    blocked = explain(site.spark, site.settings(f"lists.block_items=[{item}]"), user=user, item=item)
    assert not blocked["listed"] and "keep this item out" in in_words(blocked)


def test_a_stranger_is_told_that_popularity_answered(site) -> None:
    item = site.sql("select item_id from events limit 1")[0]["item_id"]
    found = explain(site.spark, site.settings(), user="nobody", item=item)
    assert not found["known_user"] and [part["what"] for part in found["parts"]] == ["popularity"]
    assert "knows nothing" in in_words(found)
    with_context = explain(site.spark, site.settings(), user="nobody", item=item, context={"device": "phone"})
    assert "context" in {part["what"] for part in with_context["parts"]}


def test_an_item_has_neighbours_and_movers(site) -> None:
    item = site.sql("select item_id from events group by 1 order by count(*) desc, 1 limit 1")[0]["item_id"]
    found = explain(site.spark, site.settings(), item=item, n=4)
    assert len(found["neighbours"]) == 4 and item not in {one["item_id"] for one in found["neighbours"]}
    distances = [one["distance"] for one in found["moved"]]
    assert distances == sorted(distances, reverse=True) and distances[0] > 0
    versions = {snapshot.version for snapshot in site.snapshots() if snapshot.kind == "learn"}
    assert {one["version"] for one in found["moved"]} <= versions
    assert "next to it" in in_words(found)


def test_an_item_nobody_met_is_said_to_be_unknown(site) -> None:
    with pytest.raises(FreshetError, match="has not met the item 'no such thing'"):
        explain(site.spark, site.settings(), item="no such thing")
