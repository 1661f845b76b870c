"""A version judged on what came after it: the figures the stream wrote of the same events, and what cannot be judged."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta

import pytest
from sites import Site

from freshet.errors import FreshetError, SourceRefused
from freshet.pipelines.evaluate import evaluate, in_words
from freshet.pipelines.evaluations import keep


@pytest.fixture(scope="module")
def site(spark, tmp_path_factory) -> Site:
    made = Site(spark, tmp_path_factory.mktemp("evaluate"),
                ["model.features.context=[device]", "metrics.sample=0", "source.max_files_per_trigger=1"])
    made.write()
    made.train()
    return made


@pytest.fixture(scope="module")
def learned(site) -> list:
    """The learned versions, oldest first."""
    found = [snapshot for snapshot in site.snapshots() if snapshot.kind == "learn"]
    assert len(found) == 3
    return found


def values(found: dict, slice_: str = "all") -> dict[tuple[str, str], float]:
    return {(row["learner"], row["metric"]): row["value"] for row in found["figures"] if row["slice"] == slice_}


def test_the_next_micro_batch_gives_the_figures_that_the_stream_wrote_of_it(site, learned) -> None:
    before, after = learned[1], learned[2]
    found = evaluate(site.spark, site.settings(), version=before.version)
    assert found["events"] == after.accepted_count and found["learned"] == 0
    written = site.sql(f"select m.learner, m.metric, m.slice, m.total / m.events as value from snapshots lateral view explode(metrics) as m "
                       f"where version = {after.version} and m.scoring = 'served' and m.events > 0")
    written = {(row["learner"].replace("blend", f"version {before.version}"), row["metric"], row["slice"]): row["value"] for row in written}
    mine = {(row["learner"], row["metric"], row["slice"]): row["value"] for row in found["figures"]}
    both = {name: value for name, value in written.items() if name in mine}
    assert len(both) >= 12 and {who for who, _, _ in both} == {"popularity", f"version {before.version}"}
    assert {name: mine[name] for name in both} == pytest.approx(both)


def test_slices_are_named_by_type_and_context(site, learned) -> None:
    found = evaluate(site.spark, site.settings(), version=learned[0].version)
    names = {row["slice"] for row in found["figures"]}
    devices = {row["device"] for row in site.sql("select distinct context['device'] as device from events")}
    assert names >= {"all", "known_user", "known_item", "event_type=click", *(f"device={one}" for one in devices if one)}
    assert json.loads(json.dumps(found)) == found
    text = in_words(found)
    assert "ndcg@10" in text and "device=" in text and "popularity" in text and "coverage@10" in text


def test_by_user_and_against_another_version(site, learned) -> None:
    older, newer = learned[0].version, learned[1].version
    found = evaluate(site.spark, site.settings(), version=newer, against=older, by="user", k=5)
    every = values(found)
    assert found["events"] == learned[2].accepted_count
    apart = every[f"version {newer} - version {older}", "ndcg@5"]
    assert apart == pytest.approx(every[f"version {newer}", "ndcg@5"] - every[f"version {older}", "ndcg@5"])
    assert set(found["lists"]) == {f"version {newer}", f"version {older}", "popularity"}
    assert "ndcg@5" in in_words(found)
    capped = evaluate(site.spark, site.settings("lists.exploration=0.9"), version=newer, by="user", k=5)
    assert capped["lists"][f"version {newer}"]["coverage@5"] > found["lists"][f"version {newer}"]["coverage@5"]
    few = evaluate(site.spark, site.settings(), version=newer, candidates=5, sample=50)
    assert (f"version {newer}", "ndcg@10~sampled") in values(few)


def test_the_newest_version_has_nothing_after_it_and_a_span_tells_what_was_learned(site, learned) -> None:
    with pytest.raises(FreshetError, match="No event was learned after version") as refused:
        evaluate(site.spark, site.settings())
    assert f"--version {learned[1].version}" in refused.value.remedy
    with pytest.raises(FreshetError, match="against itself"):
        evaluate(site.spark, site.settings(), version=learned[0].version, against=learned[0].version)
    times = [row["at"] for row in site.sql("select event_at as at from events order by 1")]
    since, until = (at.replace(tzinfo=UTC) if at.tzinfo is None else at for at in (times[200], times[900]))
    found = evaluate(site.spark, site.settings(), version=learned[0].version, since=since, until=until)
    assert found["events"] == sum(times[200] <= at < times[900] for at in times)
    assert 0 < found["learned"] < found["events"] and "were learned before" in in_words(found)
    with pytest.raises(FreshetError, match="no events in that span"):
        evaluate(site.spark, site.settings(), since=datetime(1999, 1, 1, tzinfo=UTC), until=datetime(1999, 1, 2, tzinfo=UTC) + timedelta(1))
    with pytest.raises(FreshetError, match="'page' in its context"):
        evaluate(site.spark, site.settings(), version=learned[0].version, columns=["page"])


def test_files_from_elsewhere_are_read_as_the_source_is(site, learned, tmp_path) -> None:
    """The source's own files, given as files: the same events, so the same figures; a line that is broken is counted."""
    given = evaluate(site.spark, site.settings(), version=learned[1].version)
    last = sorted(site.source.iterdir())[-1]
    (tmp_path / "hold out").mkdir()
    (tmp_path / "hold out" / last.name).write_bytes(last.read_bytes() * 2 + b"{broken\n")
    found = evaluate(site.spark, site.settings(), version=learned[1].version, path=str(tmp_path / "hold out"))
    assert values(found) == values(given)
    assert (found["refused"], found["repeated"]) == (1, given["events"])
    for nothing in (tmp_path / "gone", tmp_path / "empty.json"):
        (tmp_path / "empty.json").write_text("{broken\n")
        with pytest.raises(SourceRefused):
            evaluate(site.spark, site.settings(), version=learned[1].version, path=str(nothing))


def test_a_rating_model_is_judged_by_its_values(new_site) -> None:
    made = new_site("values", ["model.name=mf", "model.positive_from=1", "source.max_files_per_trigger=1"])
    made.write(800, 400)
    made.train()
    version = next(snapshot.version for snapshot in made.snapshots() if snapshot.kind == "learn")
    found = evaluate(made.spark, made.settings(), version=version)
    names = {metric for _, metric in values(found)}
    assert names >= {"rmse", "mae", "recall", "accuracy", "ndcg@10", "novelty@10"}
    assert "rmse, of" in in_words(found)
    # A model of a time without the table keeps figures too.
    shutil.rmtree(made.folder / "model" / "evaluations")
    assert evaluate(made.spark, made.settings(), version=version, save=True)["figures"] == found["figures"]
    assert made.sql("select count(*) as n from evaluations where metric = 'rmse' and learner = 'popularity' and slice = 'all'") == [{"n": 1}]


def test_what_is_kept_is_what_was_found_and_looking_keeps_nothing(site, learned) -> None:
    found = evaluate(site.spark, site.settings(), version=learned[1].version, against=learned[0].version)
    assert site.sql("select count(*) as n from evaluations") == [{"n": 0}]
    kept = evaluate(site.spark, site.settings(), version=learned[1].version, against=learned[0].version, save=True)["evaluation_id"]
    again = keep(site.spark, site.settings(), found)
    rows = site.sql(f"select * from evaluations where evaluation_id = '{kept}'")
    assert {row["version"] for row in rows} == {learned[1].version} and {row["against"] for row in rows} == {learned[0].version}
    figures = {(row["learner"], row["metric"], row["slice"]): (row["value"], row["low"], row["high"], row["observations"]) for row in rows}
    for one in found["figures"]:
        assert figures.pop((one["learner"], one["metric"], one["slice"])) == (one["value"], one["low"], one["high"], one["observations"])
    assert {(who, name): figures[who, name, "all"][0] for who, name, _ in figures} == {
        (who, name): value for who, told in found["lists"].items() for name, value in told.items()}
    [told] = site.sql("select count(distinct evaluation_id) as n, min(first_event_at) <= max(last_event_at) as ordered, max(events) as events from evaluations")
    assert told == {"n": 2, "ordered": True, "events": found["events"]} and again != kept
    assert f"as {kept}" in in_words(found | {"evaluation_id": kept})
