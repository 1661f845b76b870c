"""The rules of lists through the tables: categories, ages, what is blocked, and what `recommendations` says of chance."""

from __future__ import annotations

import pytest
from sites import WORLD, Site

from freshet.demo.generator import items_table
from freshet.errors import SettingsError
from freshet.pipelines import recommend
from freshet.pipelines.recommend import recommend_batch, recommend_user
from freshet.schema import ITEMS, REASONS
from freshet.store.tables import Tables

pytestmark = pytest.mark.spark

RULES = ("lists.category_cap=1", "lists.diversity=0.2", "lists.exploration=0.2")


@pytest.fixture(scope="module")
def site(spark, tmp_path_factory) -> Site:
    """A learned model that knows the categories of its items."""
    one = Site(spark, tmp_path_factory.mktemp("lists"))
    one.write()
    one.train()
    Tables(spark, one.settings().store.root).append(ITEMS.name, items_table(WORLD))
    return one


def written(site: Site, *sets: str) -> list[dict]:
    """The rows that a batch of lists adds to `recommendations`."""
    answer = recommend_batch(site.spark, site.settings(*sets), n=6)
    rows = site.sql(f"select r.*, i.category from recommendations r left join items i using (item_id) where r.list_id like '{answer['run']}-%'"
                    " order by user_id, rank")
    assert len(rows) == answer["rows"] > 100
    return rows


def test_rules_hold_in_the_table_and_one_user_gets_what_the_batch_gave_him(site, monkeypatch) -> None:
    monkeypatch.setattr(recommend, "USERS_AT_ONCE", 25)
    plain, ruled = written(site), written(site, *RULES)
    lists = {}
    for row in ruled:
        lists.setdefault(row["list_id"], []).append(row)
    assert all(len({row["user_id"] for row in rows}) == 1 for rows in lists.values())
    assert all(len({row["category"] for row in rows}) == len(rows) for rows in lists.values())
    said = {row["reason"] for row in ruled}
    assert "exploration" in said <= set(REASONS)
    assert "exploration" not in {row["reason"] for row in plain} and {row["propensity"] for row in plain} == {1.0}
    assert all((row["propensity"] < 0.5) == (row["reason"] == "exploration") for row in ruled)
    for rows in list(lists.values())[:2]:
        asked = recommend_user(site.spark, site.settings(*RULES), user=rows[0]["user_id"], n=6)
        for name in ("item_id", "score", "reason", "propensity"):
            assert [row[name] for row in asked] == [row[name] for row in rows]


def test_blocked_and_boosted(site) -> None:
    everything = recommend_user(site.spark, site.settings(), user="nobody", n=60)
    categories = {row["item_id"]: row["category"] for row in site.sql("select item_id, category from items")}
    first, kind = everything[0]["item_id"], categories[everything[-1]["item_id"]]
    rows = written(site, f"lists.block_items=[{first}, unheard of]", f"lists.block_categories=[{kind}]", "lists.exploration=0.5")
    assert first not in {row["item_id"] for row in rows} and kind not in {row["category"] for row in rows}
    wanted = next(row for row in everything if categories[row["item_id"]] == kind)
    boosted = recommend_user(site.spark, site.settings(f"lists.boost_categories.{kind}=50"), user="nobody", n=3)
    assert boosted[0]["item_id"] == wanted["item_id"] and boosted[0]["score"] == pytest.approx(wanted["score"] + 50)


def test_no_item_is_older_than_the_settings_allow(site) -> None:
    """By its first event, to the microsecond; by its last one, as popularity has it."""
    at = {name: {row["item_id"]: row["at"] for row in site.sql(
        f"select item_id, unix_micros({name}(event_at)) as at from events group by item_id")} for name in ("min", "max")}
    clock = max(at["max"].values())
    for setting, times in (("max_age", at["min"]), ("max_idle", at["max"])):
        limit = sorted(times.values())[len(times) // 2]
        kept = {item for item, time in times.items() if time >= limit}
        seconds = (clock - limit) / 1e6
        lists = recommend_user(site.spark, site.settings(f"lists.{setting}={seconds} seconds"), user="nobody", n=60)
        assert {row["item_id"] for row in lists} == kept and 0 < len(kept) < len(times)
    assert len(recommend_user(site.spark, site.settings("lists.max_age=never"), user="nobody", n=60)) == len(at["min"])


def test_rules_that_nothing_is_known_for_are_refused(new_site) -> None:
    other = new_site("other", ["model.name=cooccurrence"])
    other.write(400, 400)
    other.train()
    for sets, words in ((["lists.diversity=0.3"], "no vectors"), (["lists.category_cap=2"], "no item of the model")):
        with pytest.raises(SettingsError, match=words) as refused:
            recommend_user(other.spark, other.settings(*sets), user="u1", n=3)
        assert refused.value.exit_code == 2 and refused.value.remedy
    assert recommend_user(other.spark, other.settings("lists.exploration=0.1"), user="nobody", n=3)
