"""What is known of an event moves the list: context as features, through tables, replay and lists."""

from __future__ import annotations

import pytest
from sites import Site

from freshet.errors import SettingsError
from freshet.head import TOTALS
from freshet.pipelines.recommend import recommend_batch, recommend_user
from freshet.pipelines.replay import replay
from freshet.schema import LAST_CONTEXT
from freshet.settings import load

WITH = "model.features.context=[device]"


@pytest.fixture(scope="module")
def site(spark, tmp_path_factory) -> Site:
    made = Site(spark, tmp_path_factory.mktemp("features"), [WITH])
    made.write()
    made.train()
    return made


def rows(site: Site, text: str) -> list[dict]:
    from freshet.pipelines.query import sql as query

    return query(site.spark, site.settings(), text).to_pylist()


def test_every_value_of_the_context_is_a_row_with_a_name(site) -> None:
    found = rows(site, "select natural_id, size(vector) as width, count from parameters join ids using (block, key) where block = 'feature'")
    assert {row["natural_id"] for row in found} == {f"device={name}" for name in ("phone", "desktop", "tablet", "television")}
    assert all(row["width"] == 4 and row["count"] > 100 for row in found)
    last = rows(site, f"select count(*) as n, max(size(links)) as links from parameters where block = '{LAST_CONTEXT}'")
    users = rows(site, "select count(*) as n from ids where block = 'user'")
    assert last[0]["n"] == users[0]["n"] and last[0]["links"] == 1
    assert rows(site, f"select count(*) as n from parameters where block = '{TOTALS}'")[0]["n"] == 1


def test_events_replay_with_their_features(site) -> None:
    assert replay(site.spark, site.settings(), verify=True)["verified"]


def test_lists_follow_the_context(site) -> None:
    user = rows(site, "select user_id, max_by(context['device'], event_at) as device from events group by 1 order by 1 limit 1")[0]
    def asked(context, name=user["user_id"]):
        return [(row["item_id"], row["score"]) for row in recommend_user(site.spark, site.settings(), user=name, n=8, context=context)]
    by_device = {device: asked({"device": device}) for device in ("phone", "desktop", "tablet", "television")}
    assert asked(None) == by_device[user["device"]]
    assert len({tuple(found) for found in by_device.values()}) > 1
    assert asked({"device": "phone"}, "nobody") != asked(None, "nobody")  # a context is enough to go by
    recommend_batch(site.spark, site.settings(), n=8)
    written = rows(site, f"select item_id, score from recommendations where user_id = '{user['user_id']}' order by rank")
    assert [(row["item_id"], row["score"]) for row in written] == asked(None)


def test_the_features_of_a_model_stay_and_come_from_the_source(site) -> None:
    with pytest.raises(SettingsError, match=r"features\.context"):
        site.train("model.features.context=[]")
    with pytest.raises(SettingsError) as refused:
        load([], {}, ["source.context=[device]", "model.features.context=[devise]"])
    assert "devise" in str(refused.value) and "source.context" in str(refused.value)
