"""What is known of an event moves the list: context as features, through tables, replay and lists."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sites import WORLD, Site

from freshet.demo.records import TYPES
from freshet.demo.truth import CLICKS, RATINGS
from freshet.errors import SettingsError
from freshet.head import TOTALS
from freshet.pipelines.explain import explain
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


def test_strangers_get_what_is_popular_where_they_ask_from(spark, tmp_path_factory) -> None:
    made = Site(spark, tmp_path_factory.mktemp("segments"), [WITH, "popularity.segment=device", "model.name=bpr"])
    made.write(800)
    made.train()
    assert replay(made.spark, made.settings(), verify=True)["verified"]
    for device in ("phone", "desktop"):
        places = recommend_user(made.spark, made.settings(), user="nobody", n=3, context={"device": device})
        assert {place["reason"] for place in places} == {"segment"}
        found = explain(made.spark, made.settings(), user="nobody", item=places[0]["item_id"], context={"device": device})
        assert found["score"] == pytest.approx(places[0]["score"], rel=1e-4)
        assert {(part["what"], part["of"]) for part in found["parts"]} == {
            ("popularity", places[0]["item_id"]), ("segment", f"device={device}")}
    assert {place["reason"] for place in recommend_user(made.spark, made.settings(), user="nobody", n=3)} == {"popularity"}
    with pytest.raises(SettingsError, match=r"popularity\.segment"):
        made.train("popularity.segment=null")


@pytest.fixture(scope="module", params=[("blend", CLICKS), ("rating", RATINGS)], ids=lambda given: given[0])
def described(spark, tmp_path_factory, request) -> Site:
    """A model that learns some micro-batches, is told of the items, one nobody has met among them, and learns the rest."""
    model, kind = request.param
    sets = [f"model.name={model}", f"source.event_types=[{TYPES[kind]}]", "model.features.items=[category,mood]"]
    made = Site(spark, tmp_path_factory.mktemp("described"), sets)
    made.write(1600, 400, world=replace(WORLD, kind=kind))
    made.train(until=lambda read: read >= 400)
    tell(made, [(row["item_id"], f"c{number % 3}", {"mood": "good|bad" if number % 2 else "good"})
                for number, row in enumerate(rows(made, "select distinct item_id from events order by 1"))]
         + [("never met", "c1", {"mood": "good"})])
    made.train(until=lambda read: read >= 1200)
    tell(made, [("later", "c2", None)])
    made.train()
    return made


def tell(site: Site, items: list[tuple[str, str, dict[str, str] | None]]) -> None:
    schema = "item_id string, category string, attributes map<string, string>"
    frame = site.spark.createDataFrame(items, schema).selectExpr("item_id", "cast(null as string) as title", "category", "attributes")
    frame.write.format("delta").mode("append").save(f"{site.folder}/model/items")


def test_items_are_taken_as_versions_of_their_own(described) -> None:
    found = rows(described, "select kind, count(*) as n, sum(accepted_count) as events from snapshots group by 1")
    by_kind = {row["kind"]: (row["n"], row["events"]) for row in found}
    assert by_kind["items"] == (2, 0) and by_kind["learn"][0] == 4
    names = rows(described, "select natural_id, size(vector) as width from parameters join ids using (block, key) where block = 'attribute'")
    assert {row["natural_id"] for row in names} == {"category=c0", "category=c1", "category=c2", "mood=good", "mood=bad"}
    assert {row["width"] for row in names} == {5}
    links = rows(described, "select natural_id, size(links) as n from parameters p join ids i on p.key = i.key and i.block = 'item' "
                            "where p.block = 'item_attributes' and natural_id in ('never met', 'later') order by 1")
    assert links == [{"natural_id": "later", "n": 1}, {"natural_id": "never met", "n": 2}]


def test_an_item_nobody_has_met_can_be_recommended(described) -> None:
    user = rows(described, "select user_id from events order by 1 limit 1")[0]["user_id"]
    listed = recommend_user(described.spark, described.settings(), user=user, n=1000)
    scores = {row["item_id"]: row["score"] for row in listed}
    assert {"never met", "later"} <= scores.keys() and scores["never met"] != scores["later"]


def test_events_replay_between_what_was_said_of_items(described) -> None:
    assert replay(described.spark, described.settings(), verify=True)["verified"]
    learned = [s.version for s in described.snapshots() if s.kind == "learn"]
    assert replay(described.spark, described.settings(), verify=True, from_version=learned[2])["versions"] == 2
