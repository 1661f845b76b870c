"""The command line without Spark: what is refused, in which order things happen, and what each command calls."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from freshet import errors
from freshet.cli import job, main
from freshet.cli.commands import main as group
from freshet.cli.running import unexpected

ROOT = Path(__file__).parents[1]


class Session:
    stopped = False

    def stop(self) -> None:
        Session.stopped = True


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Fake pipelines that note what they were called with; no Spark is started."""
    noted: dict[str, Any] = {"answer": None, "raise": None}

    def fake(module: str, name: str) -> None:
        def call(spark: object, settings: Any, **options: Any) -> Any:
            for watcher in ("listener", "announce", "say"):
                options.pop(watcher, None)
            noted.update(name=f"{module}.{name}", settings=settings, options=options)
            if noted["raise"]:
                raise noted["raise"]
            return noted["answer"]

        made = sys.modules.get(f"fake.{module}") or ModuleType(module)
        monkeypatch.setitem(sys.modules, f"fake.{module}", made)
        monkeypatch.setitem(sys.modules, f"freshet.pipelines.{module}", made)
        import freshet.pipelines

        monkeypatch.setattr(freshet.pipelines, module, made, raising=False)
        setattr(made, name, call)

    for module, name in PIPELINES:
        fake(module, name)
    monkeypatch.setattr("freshet.cli.running._session", lambda settings: Session())
    monkeypatch.setattr("freshet.cli.running.check_root", lambda root, makes: noted.update(makes=makes))
    Session.stopped = False
    return noted


PIPELINES = (
    ("showcase", "demo"), ("online", "train"), ("recommend", "recommend_user"), ("recommend", "recommend_batch"),
    ("explain", "explain"), ("status", "status"), ("replay", "replay"), ("maintain", "maintain"), ("reset", "reset"), ("query", "sql"),
    ("evaluate", "evaluate"), ("retrain", "retrain"), ("status", "decided"), ("publishing", "publish_version"), ("rolling", "rollback"),
    ("backfill", "backfill"), ("comparing", "challengers"), ("promoting", "promote_challenger"),
)  # fmt: skip


def invoke(*args: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner(env=env).invoke(main, args)


SOURCE = ("--set", f"source.path={ROOT / 'tests'}")


@pytest.mark.parametrize(
    ("args", "name", "options"),
    [
        (["demo", "--quick"], "showcase.demo", {"quick": True, "kafka": None}),
        (["evaluate", "--against", "3", "--from", "2026-11-20", "--json"], "evaluate.evaluate",
         {"version": None, "against": 3, "since": datetime(2026, 11, 20, tzinfo=UTC), "until": None, "path": None, "by": "event",
          "k": None, "threshold": None, "candidates": None, "sample": 0, "columns": (), "save": False}),
        (["explain", "--user", "7", "--item", "8", "--json"], "explain.explain", {"user": "7", "item": "8", "context": {}}),
        (["train", *SOURCE], "online.train",
         {"available_now": False, "adopt_checkpoint": False, "from_here": False, "skip_batch": None, "reason": None}),
        (["train", *SOURCE, "--available-now", "--skip-batch", "3", "--reason", "cents"], "online.train",
         {"available_now": True, "adopt_checkpoint": False, "from_here": False, "skip_batch": 3, "reason": "cents"}),
        (["recommend", "--user", "7", "-n", "5"], "recommend.recommend_user", {"user": "7", "n": 5, "context": {}}),
        (["recommend", "--user", "7", "--context", "device=a=b"], "recommend.recommend_user",
         {"user": "7", "n": 10, "context": {"device": "a=b"}}),
        (["recommend", "--all"], "recommend.recommend_batch", {"n": 10, "touched_since": None}),
        (["recommend", "--touched-since", "0"], "recommend.recommend_batch", {"n": 10, "touched_since": 0}),
        (["status"], "status.status", {}),
        (["replay", "--verify", "--from", "1", "--to", "2"], "replay.replay",
         {"verify": True, "from_version": 1, "to_version": 2}),
        (["maintain"], "maintain.maintain", {"compact": True, "orphans": True, "retention": True}),
        (["maintain", "--orphans"], "maintain.maintain", {"compact": False, "orphans": True, "retention": False}),
        (["reset"], "reset.reset", {"yes": False}),
        (["retrain", "--from", "3", "--start-from", "9"], "retrain.retrain",
         {"first": "3", "last": None, "start_from": 9, "path": None, "reason": "asked for"}),
        (["backfill", *SOURCE, "--from", "2026-09-01", "--to", "2026-09-02 12:00:00"], "backfill.backfill",
         {"since": datetime(2026, 9, 1), "until": datetime(2026, 9, 2, 12)}),
        (["decisions", "-n", "3"], "status.decided", {"n": 3, "evidence": False}),
        (["publish", "--version", "7"], "publishing.publish_version", {"version": 7, "reason": None, "force": False}),
        (["rollback", "--to", "7", "--reason", "farm", "--events", "relearn", "--where", "user_id != 'x'"], "rolling.rollback",
         {"to": 7, "reason": "farm", "events": "relearn", "where": "user_id != 'x'"}),
        (["challengers", "--points", "5", "--json"], "comparing.challengers", {"points": 5}),
        (["promote", "quick"], "promoting.promote_challenger", {"name": "quick", "reason": None, "force": False}),
        (["sql", "select 1", "--as-of", "4"], "query.sql", {"query": "select 1", "as_of": 4}),
    ],
)  # fmt: skip
def test_command_is_one_library_call(
    called: dict[str, Any], args: list[str], name: str, options: dict[str, Any]
) -> None:
    result = invoke(*args)
    assert result.exit_code == 0, result.output
    assert (called["name"], called["options"]) == (name, options)
    assert Session.stopped


def test_every_command_is_tried_above_and_has_an_example() -> None:
    assert set(main.commands) == {
        "demo", "train", "recommend", "explain", "evaluate", "status", "replay", "maintain", "reset", "sql", "config", "decisions",
        "publish", "rollback", "retrain", "backfill", "challengers", "promote", "doctor",
    }  # fmt: skip
    for name in set(main.commands) - {"config"}:
        text = invoke(name, "--help").output
        assert f"freshet {name}" in text.split("Options:")[0], name
    assert "freshet demo" in invoke("--help").output


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("FAIL", 1)])
def test_the_doctor_tells_line_by_line_and_by_its_exit_code(
    called: dict[str, Any], monkeypatch: pytest.MonkeyPatch, state: str, code: int
) -> None:
    from freshet.pipelines import doctor

    asked: list[bool] = []
    monkeypatch.setattr(doctor, "of_machine", lambda settings: [doctor.Check("java", "ok", "Java 17.")])
    monkeypatch.setattr(doctor, "of_storage", lambda spark, settings: [doctor.Check("round trip", state, "as it is.", "Do that.")])
    monkeypatch.setattr(doctor, "of_model", lambda spark, settings, deep: asked.append(deep) or [])
    result = invoke("doctor", "--deep")
    assert (result.exit_code, asked, Session.stopped) == (code, [True], True)
    lines = result.output.splitlines()
    assert lines[0].split() == ["ok", "java", "Java", "17."] and lines[1].startswith(state) and lines[1].endswith("as it is. Do that.")


def test_options_that_stand_for_settings(called: dict[str, Any]) -> None:
    assert invoke("train", *SOURCE, "--trigger", "5 seconds", "--set", "stream.trigger=9").exit_code == 0
    assert called["settings"].stream.trigger == 5.0
    assert invoke("train", *SOURCE, "--json").exit_code == 0
    assert called["settings"].stream.progress == "json"
    assert invoke("demo", "--model", "mf").exit_code == 0
    assert called["settings"].model.name == "mf"
    refused = invoke("demo", "--model", "bprr")
    assert refused.exit_code == 2
    assert "--model: model.name: got \"bprr\"" in refused.output
    assert "did you mean bpr?" in refused.output


def test_all_refusals_at_once_and_nothing_starts(called: dict[str, Any]) -> None:
    result = invoke("train", "--set", "model.factors=0", "--set", "modl.seed=1", env={"FRESHET_GUARD__X": "1"})
    assert result.exit_code == 2
    for key in ("source.path", "model.factors", "modl.seed", "guard.x"):
        assert key in result.output
    assert "name" not in called


@pytest.mark.parametrize("form", ["json", "csv", "parquet", "delta"])
def test_a_source_that_is_not_there_is_refused_before_anything_starts(
    called: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("HADOOP_CONF_DIR", "YARN_CONF_DIR", "SPARK_CONF_DIR", "PYSPARK_GATEWAY_PORT"):
        monkeypatch.delenv(name, raising=False)
    for path in ("gone", f"{tmp_path}/gone", f"file:{tmp_path}/gone", f"file://{tmp_path}/gone"):
        result = invoke("train", "--set", f"source.path={path}", "--set", f"source.format={form}")
        assert result.exit_code == 2
        assert f'--set source.path: got "{path}", and nothing is there' in result.output
    assert "name" not in called
    assert not list(tmp_path.iterdir())


def test_a_source_that_only_spark_can_find_is_left_to_it(called: dict[str, Any]) -> None:
    for path in ("s3a://bucket/events", "hdfs://name/events", "/nowhere/*/events"):
        assert invoke("train", "--set", f"source.path={path}").exit_code == 0
    for elsewhere in ("spark.master=yarn", "spark.conf.spark.hadoop.fs.defaultFS=hdfs://name"):
        assert invoke("train", "--set", "source.path=/nowhere/events", "--set", elsewhere).exit_code == 0
    assert invoke("train", "--set", "source.path=/nowhere/events", env={"HADOOP_CONF_DIR": "/etc/hadoop"}).exit_code == 0


@pytest.mark.parametrize(
    "args",
    [["recommend"], ["recommend", "--user", "1", "--all"], ["train", "--skip-batch", "1"], ["train", "--reason", "x"],
     ["recommend", "--user", "1", "-n", "0"], ["sql"]],
)  # fmt: skip
def test_options_that_do_not_go_together(called: dict[str, Any], args: list[str]) -> None:
    assert invoke(*args, *(SOURCE if args[0] == "train" else ())).exit_code == 2
    assert "name" not in called


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (errors.AlreadyRunning("Another learner holds it.", remedy="Stop it.", root="r", holder=1), 2,
         "Another learner holds it. Stop it.\n"),
        (errors.CheckFailed("A digest differs."), 1, "A digest differs.\n"),
        (KeyboardInterrupt(), 130, "Stopped.\n"),
        (ValueError("odd\nmore"), 2, "Unexpected ValueError: odd. The option --debug shows the traceback.\n"),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_sentence_and_a_code(
    called: dict[str, Any], raised: BaseException, code: int, text: str
) -> None:
    called["raise"] = raised
    result = invoke("status")
    assert (result.exit_code, result.output) == (code, text)
    assert Session.stopped


def test_debug_shows_the_traceback(called: dict[str, Any]) -> None:
    called["raise"] = ValueError("odd")
    assert "Traceback" in invoke("status", "--debug").output
    assert "Traceback" in invoke("status", env={"FRESHET_DEBUG": "1"}).output
    assert "Traceback" not in invoke("status").output


def test_an_error_of_java_is_its_root_cause() -> None:
    class Throwable:
        def __init__(self, message: str, cause: Throwable | None = None) -> None:
            self.message, self.cause = message, cause

        def getCause(self) -> Throwable | None:
            return self.cause

        def getMessage(self) -> str:
            return self.message

        def getClass(self) -> Throwable:
            return self

        def getSimpleName(self) -> str:
            return "IOException"

    error = RuntimeError("An error occurred while calling o1.load\n\tat java.base/...")
    error.java_exception = Throwable("Job aborted", Throwable("disk full\n\tat x"))  # type: ignore[attr-defined]
    assert unexpected(error) == "Unexpected IOException: disk full."


def test_answers_are_printed(called: dict[str, Any]) -> None:
    called["answer"] = {"health": "good", "head": {"version": 3}}
    assert json.loads(invoke("status", "--json").output) == called["answer"]
    assert invoke("status").output.split() == ["health", "good", "head.version", "3"]
    called["answer"] = [{"rank": 1, "item": "x", "reason": "user"}]
    assert invoke("recommend", "--user", "1").output.split() == ["rank", "item", "reason", "1", "x", "user"]
    called["answer"][0]["reason"] = "popularity"
    assert "no more of this user than of a newcomer" in invoke("recommend", "--user", "1").stderr
    called["answer"] = []
    assert invoke("decisions").output == "Nothing was decided yet.\n"
    assert json.loads(invoke("decisions", "--json").output) == []
    called["answer"] = 1
    assert invoke("replay", "--verify").exit_code == 1


@pytest.mark.parametrize("command", [["train"], ["backfill", "--from", "2026-09-01", "--to", "2026-09-02"]])
def test_a_root_that_can_hold_no_model_is_refused_by_name(command: list[str], tmp_path: Path) -> None:
    """Before Spark is started: there is none here to start."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    for root in (tmp_path / "file", tmp_path / "file" / "model"):
        done = invoke(*command, *SOURCE, "--set", f"store.root={root}")
        assert done.exit_code == 2
        assert f"store.root {root} can hold no model: {tmp_path / 'file'} is no folder. Name another folder" in done.stderr


@pytest.mark.parametrize(("args", "makes"), [
    (["train", *SOURCE], True), (["demo"], True), (["status"], False), (["maintain"], False), (["rollback", "--to", "1", "--reason", "x"], False),
])  # fmt: skip
def test_only_what_makes_a_model_starts_without_one(called: dict[str, Any], args: list[str], makes: bool) -> None:
    assert invoke(*args).exit_code == 0
    assert called["makes"] is makes


def test_config_show_needs_no_spark() -> None:
    result = invoke("config", "show", "--origin", "--set", "model.factors=32")
    assert result.exit_code == 0
    assert "model.factors = 32 " in result.output
    assert "# --set model.factors" in result.output
    assert "# default.yaml:" in result.output
    assert invoke("config", "default").output.startswith("# Every setting of Freshet")


@pytest.mark.parametrize("name", ["train", "recommend", "evaluate", "replay", "retrain", "maintain", "backfill"])
def test_job_is_the_command(called: dict[str, Any], name: str) -> None:
    own = {"recommend": ["--all"], "evaluate": ["--json"], "backfill": ["--from", "2026-09-01", "--to", "2026-09-02"]}
    args = [*SOURCE, *own.get(name, [])]
    assert job(name, [*args, "--set", "model.factors=0"]) == 2
    called["answer"] = 1
    assert job(name, args) == 1
    called["answer"] = None
    assert job(name, args) == 0
    text = (ROOT / "jobs" / f"{name}.py").read_text(encoding="utf-8")
    assert f'job("{name}", sys.argv[1:])' in ast.unparse(ast.parse(text)).replace("'", '"')


def test_nothing_of_spark_is_imported_before_settings_and_java_are_accepted(tmp_path: Path) -> None:
    """In a process of its own: refused settings, then a missing Java, each without pyspark."""
    code = (
        "import sys\nfrom freshet.cli import main\n"
        "try:\n    main(sys.argv[1:])\nfinally:\n    assert 'pyspark' not in sys.modules, 'pyspark was imported'\n"
    )
    env = {**os.environ, "JAVA_HOME": str(tmp_path), "PATH": str(tmp_path)}
    (tmp_path / "model" / "snapshots").mkdir(parents=True)
    there = ["--set", f"store.root={tmp_path / 'model'}"]
    for args, text in (
        (["status", "--set", "model.factors=0"], "model.factors"),
        (["status", "--set", f"store.root={tmp_path / 'none'}"], f"There is no model under {tmp_path / 'none'}."),
        (["status", *there], "needs Java 17"),
    ):
        done = subprocess.run([sys.executable, "-c", code, *args], env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 2, done.stderr
        assert text in done.stderr
        assert "Traceback" not in done.stderr


def test_the_group_is_the_entry_point() -> None:
    assert group is main
