"""Layers of settings: who wins, where a value came from, and every problem at once."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from freshet.errors import SettingsError
from freshet.settings import Problem, Settings, default_text, lines, load
from freshet.settings.names import every


def problems(*args: object, **kwargs: object) -> dict[str, Problem]:
    with pytest.raises(SettingsError) as refused:
        load(*args, **kwargs)  # type: ignore[arg-type]
    assert refused.value.exit_code == 2
    found: tuple[Problem, ...] = refused.value.problems  # type: ignore[attr-defined]
    assert len({(problem.key, problem.where) for problem in found}) == len(found)
    return {problem.key: problem for problem in found}


def write(folder: Path, text: str, name: str = "shop.yaml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_default_yaml_says_every_setting_as_the_model_has_it() -> None:
    settings, origins = load()
    assert settings == Settings()
    assert {key for key, where in origins.items() if where.startswith("default.yaml:")} == {
        ".".join(place.path) for place in every(Settings)
    }


def test_every_setting_of_default_yaml_has_its_reason() -> None:
    """A comment stands before each key, or before the first of the keys that belong together."""
    text = default_text().splitlines()
    bare = [line for before, line in pairwise(text)
            if line.strip() and not line.strip().startswith("#") and not before.strip()]  # fmt: skip
    assert bare == []  # no group of settings begins without a reason
    assert sum(line.strip().startswith("#") for line in text) > 0.8 * len(list(every(Settings)))


def test_later_layers_win(tmp_path: Path) -> None:
    first = write(tmp_path, "model:\n  factors: 2\n  shards: 2\n  seed: 2\n  l2: 0.2\n")
    second = write(tmp_path, "model:\n  shards: 3\n  seed: 3\n  l2: 0.3\n", "more.yaml")
    settings, origins = load(
        [first, second], {"FRESHET_MODEL__SEED": "4", "FRESHET_MODEL__L2": "0.4", "HOME": "/"}, ["model.l2=0.5"],
        flags=[("--trigger", "stream.trigger", "5 seconds")],
    )  # fmt: skip
    model = settings.model
    assert (model.factors, model.shards, model.seed, model.l2, model.max_norm) == (2, 3, 4, 0.5, 10.0)
    assert settings.stream.trigger == 5.0
    assert origins["model.factors"] == f"{first}:2"
    assert origins["model.shards"] == f"{second}:2"
    assert origins["model.seed"] == "FRESHET_MODEL__SEED"
    assert origins["model.l2"] == "--set model.l2"
    assert origins["stream.trigger"] == "--trigger"
    assert origins["model.max_norm"].startswith("default.yaml:")


def test_maps_are_merged_by_key_and_emptied_by_an_empty_map(tmp_path: Path) -> None:
    path = write(tmp_path, 'spark:\n  conf:\n    spark.a.b: 1\n    spark.c: "x y"\nsource:\n  values: {view: 1}\n')
    settings, origins = load([path], {"FRESHET_SOURCE__VALUES__addToCart": "3"}, ["spark.conf.spark.a.b=2"])
    assert settings.spark.conf == {"spark.a.b": "2", "spark.c": "x y"}
    assert settings.source.values == {"view": 1.0, "addToCart": 3.0}
    assert origins["spark.conf.spark.a.b"] == "--set spark.conf.spark.a.b"
    assert load([path], {}, ["source.values={}"])[0].source.values == {}


def test_text_stays_as_it_was_written(tmp_path: Path) -> None:
    path = write(tmp_path, "source:\n  columns: {user_id: 007, item_id: no, weight: null}\n  context: [on, 1.50]\n")
    source = load([path])[0].source
    assert (source.columns.user_id, source.columns.item_id, source.columns.weight) == ("007", "no", None)
    assert source.context == ("on", "1.50")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("45 minutes", 2700.0), ("1 hour", 3600.0), ("7 days", 604800.0), ("1.5 seconds", 1.5), ("90", 90.0),
     ("250 milliseconds", 0.25), ("1 week", 604800.0)],
)  # fmt: skip
def test_durations(text: str, seconds: float) -> None:
    assert load(sets=[f"popularity.half_life={text}"])[0].popularity.half_life == seconds


def test_never_is_allowed_where_it_means_something() -> None:
    assert load(sets=["popularity.half_life=never"])[0].popularity.half_life is None
    assert load(sets=["popularity.half_life=null"])[0].popularity.half_life is None
    assert "clean.dedup_window" in problems(sets=["clean.dedup_window=never"])


def test_every_problem_is_reported_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, """\
model:
  factor: 32
  shards: many
  name: bprr
  optimizer: {decay: 2}
  seed: 1
  seed: 2
clean:
  value_min: 5
  value_max: 1
  max_age: soon
source:
  values: {view: x}
  path: !!python/object/apply:os.system ["touch canary"]
stream: 4
""")  # fmt: skip
    env = {"FRESHET_GUARD__MAX_CAPPED_SHARE": "7", "FRESHET_MODEL_FACTORS": "3", "FRESHET_DEBUG": "1"}
    found = problems([path], env, ["metrics.k", "demo.dirt=1e999"], required=["source.path"])
    expected = {
        "model.factor": (f"{path}:2", "model.factors"), "model.shards": (f"{path}:3", ""),
        "model.name": (f"{path}:4", "bpr"), "model.optimizer.decay": (f"{path}:5", ""),
        "model.seed": (f"{path}:7", ""), "clean.value_min": (f"{path}:9, {path}:10", ""),
        "clean.max_age": (f"{path}:11", ""), "source.values.view": (f"{path}:13", ""), "stream": (f"{path}:15", ""),
        "guard.max_capped_share": ("FRESHET_GUARD__MAX_CAPPED_SHARE", ""), "demo.dirt": ("--set demo.dirt", ""),
        "model_factors": ("FRESHET_MODEL_FACTORS", "model.factors"),
    }  # fmt: skip
    assert {key: (found[key].where, found[key].nearest) for key in expected} == expected
    assert found["source.path"].given == "nothing"  # the one with the tag was refused, and none is left
    assert set(found) == {*expected, "source.path", ""}
    assert not Path("canary").exists()


def test_a_file_that_cannot_be_read_has_no_problems_that_follow_from_it(tmp_path: Path) -> None:
    for unread in (str(tmp_path / "none.yaml"), write(tmp_path, "source: [1: 2\n")):
        found = problems([unread], {}, ["model.factors=0"], required=["source.path"])
        assert set(found) == {"", "model.factors"}  # all others are still told
    assert "source.path" in problems([write(tmp_path, "model: {seed: 2}\n")], required=["source.path"])


def test_problem_says_where_got_and_wanted(tmp_path: Path) -> None:
    text = str(problems(sets=["model.factors=0"])["model.factors"])
    assert text == "--set model.factors: got 0, wanted at least 1"
    assert str(problems(sets=["model.name=MF"])["model.name"]).endswith("'mf' or 'rating' (did you mean mf?)")
    twice = problems([write(tmp_path, "model:\n  seed: 1\n  seed: 2\n", "twice.yaml")])["model.seed"]
    assert f"got the key a second time (first at {tmp_path / 'twice.yaml'}:2), wanted each key once" in str(twice)
    both = str(problems(sets=["clean.value_min=5", "clean.value_max=1"])["clean.value_min"])
    assert both.endswith("clean.value_min: got value_min = 5 and value_max = 1, wanted value_min below value_max")


def test_the_message_has_no_trailing_blanks() -> None:
    with pytest.raises(SettingsError) as refused:
        load(sets=["model.factors=0"])
    assert all(line == line.rstrip() for line in str(refused.value).splitlines())


def test_variables_that_are_no_settings() -> None:
    process = {"FRESHET_DEBUG": "1", "FRESHET_FAILPOINTS": "", "FRESHET_SERVICE_HOST": "10.0.0.1", "FRESHET_PORT_80_TCP": "x"}
    assert load([], process)[0] == Settings()
    found = problems([], {"FRESHET_FOO": "1", "FRESHET_MODEL__FACTOR": "1", "FRESHET_DEBUGGING": "1"})
    assert {problem.where: problem.nearest for problem in found.values()} == {
        "FRESHET_FOO": "", "FRESHET_MODEL__FACTOR": "model.factors", "FRESHET_DEBUGGING": "",
    }  # fmt: skip


def test_an_empty_variable_is_what_an_empty_flag_is() -> None:
    [variable], [flag] = problems([], {"FRESHET_STORE__ROOT": ""}).values(), problems(sets=["store.root="]).values()
    assert (variable.given, variable.wanted) == (flag.given, flag.wanted) == ("null", "text")
    assert load([], {"FRESHET_STORE__CHECKPOINT": ""})[0].store.checkpoint is None


@pytest.mark.parametrize(
    ("text", "given"),
    [("a: &x 1\nb: *x\n", "an alias"), ("? [a]\n: 1\n", "a key that is not text"), ("model: {seed: !!int 3}\n", "tag"),
     ("model: [1, 2\n", "','"), ("model: 1\n---\nmodel: 2\n", "document"), ("source: {context: [[a]]}\n", "nested")],
)  # fmt: skip
def test_what_yaml_can_do_and_settings_do_not_want(tmp_path: Path, text: str, given: str) -> None:
    found = problems([write(tmp_path, text)])
    assert any(given in problem.given for problem in found.values()), found


def test_a_setting_given_twice_in_one_file_in_two_ways(tmp_path: Path) -> None:
    path = write(tmp_path, "model:\n  seed: 1\nmodel.seed: 2\n")
    assert problems([path])["model.seed"].where == f"{path}:3"


def test_numbers_are_not_guessed() -> None:
    texts = {"model.factors": "16.5", "model.seed": "true", "metrics.k": "1.0", "model.shards": "'8'", "model.l2": "no"}
    assert set(problems(sets=[f"{key}={text}" for key, text in texts.items()])) == set(texts)


def test_a_constant_is_for_a_field_of_an_event() -> None:
    assert load(sets=["source.constants.event_type=no"])[0].source.constants == {"event_type": "no"}
    problem = problems(sets=["source.constants.kind=click"])["source.constants.kind"]
    assert "event_type" in problem.wanted
    assert problem.where == "--set source.constants.kind"


def test_a_comparison_with_a_default_nobody_chose_is_no_problem_of_its_own() -> None:
    assert set(problems(sets=["clean.value_min=x", "clean.value_max=-2e6"])) == {"clean.value_min"}


@pytest.mark.parametrize(
    ("sets", "key"),
    [(["source.columns.event_at=null"], "source.order"), (["source.time_unit=ms", "source.time_format=yyyy"],
     "source.time_format"), (["source.csv.header=false"], "source.csv.columns"),
     (["source.event_types=[view]", "source.values={buy: 3}"], "source.values")],
)  # fmt: skip
def test_settings_that_do_not_go_together(sets: list[str], key: str) -> None:
    assert set(problems(sets=sets)) == {key}


SECRET = "canary-7d1f"


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    path = write(tmp_path, f"spark:\n  conf: {{spark.my.Password: {SECRET}, spark.plain: seen}}\n")
    settings, origins = load([path], {}, [f"source.path=s3a://me:{SECRET}@bucket/events"])
    shown = "\n".join(lines(settings, origins)) + settings.to_json() + repr(settings) + str(settings)
    assert SECRET not in shown
    assert SECRET not in repr(settings.spark) + str(settings.source)
    assert "seen" in shown
    assert "[redacted]" in "\n".join(lines(settings))
    refused = problems([path], {"FRESHET_SPARK__CONF__spark.token": f"[{SECRET}]"}, ["model.factors=x"])
    assert SECRET not in "".join(map(str, refused.values()))


def test_json_is_stable_and_comes_back() -> None:
    settings = load(sets=["source.values={view: 1, buy: 3}", "source.context=[a, b]", "popularity.half_life=never"])[0]
    again = load(sets=["popularity.half_life=never", "source.context=[a, b]", "source.values={buy: 3, view: 1}"])[0]
    assert settings.to_json() == again.to_json()
    assert Settings.from_json(settings.to_json()) == settings


def test_settings_are_frozen() -> None:
    settings = Settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.model.factors = 3  # type: ignore[misc]


def test_lines_say_value_and_origin() -> None:
    settings, origins = load(sets=["model.factors=32"])
    shown = dict(line.split(" = ", 1) for line in lines(settings, origins))
    assert shown["model.factors"].split() == ["32", "#", "--set", "model.factors"]
    assert shown["store.log_retention"].startswith('"30 days"')
    assert len(shown) == len(list(every(Settings)))


def test_the_file_in_conf_is_the_packaged_one() -> None:
    assert (Path(__file__).parents[2] / "conf" / "default.yaml").read_text(encoding="utf-8") == default_text()
