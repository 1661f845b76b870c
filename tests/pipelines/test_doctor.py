"""Each check has something it passes and something it fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import deltalake
import pytest
from click.testing import CliRunner
from sites import Site

from freshet.cli.commands import main
from freshet.errors import EngineRefused
from freshet.pipelines import doctor
from freshet.pipelines.doctor import FAIL, OK, WARN, Check
from freshet.settings import load
from freshet.store.decisions import request
from freshet.store.lock import model_lock
from freshet.store.tables import Tables


def by_name(checks) -> dict[str, Check]:
    return {check.name: check for check in checks}


def of_machine(root: Path) -> dict[str, Check]:
    return by_name(doctor.of_machine(load([], {}, [f"store.root={root}"])[0]))


def test_a_sound_machine_passes(tmp_path: Path) -> None:
    found = of_machine(tmp_path / "model")
    assert list(found) == ["java", "compiled code", "disk", "permissions", "clock", "lock"]
    assert {check.state for name, check in found.items() if name != "disk"} == {OK}
    assert "Java" in found["java"].found and str(found["java"]).startswith("ok    java")


def test_what_is_wrong_with_a_machine_is_said_with_a_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "model"
    root.mkdir()
    root.chmod(0o777)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with model_lock(str(root)):
        found = of_machine(root)
    assert (found["java"].state, found["disk"].state, found["permissions"].state) == (FAIL, WARN, WARN)
    assert "Java 17" in found["java"].found and all(found[name].remedy for name in ("java", "disk", "permissions"))
    assert f"pid {os.getpid()}" in found["lock"].found


def test_a_model_that_others_may_look_into_is_told_unless_it_is_meant(tmp_path: Path) -> None:
    for mode, permissions, state in ((0o700, "private", OK), (0o755, "private", WARN), (0o755, "inherit", OK), (0o750, "group", OK)):
        tmp_path.chmod(mode)
        settings = load([], {}, [f"store.root={tmp_path}", f"store.permissions={permissions}"])[0]
        found = by_name(doctor.of_machine(settings))["permissions"]
        assert found.state == state and ("look into" in found.found) == (state == WARN), (mode, permissions)


@pytest.mark.spark
def test_a_sound_model_passes_and_nothing_is_left_behind(site: Site) -> None:
    site.write(400, 200)
    assert by_name(doctor.of_model(site.spark, site.settings(), False))["model"].found.startswith("none under")
    site.train()
    before = sorted(path.name for path in (site.folder / "model").iterdir())
    checks = [*doctor.of_storage(site.spark, site.settings()), *doctor.of_model(site.spark, site.settings(), True)]
    assert [check.name for check in checks] == ["spark", "jars", "round trip", "model", "times", "checkpoint", "chain", "orphans", "requests", "digest"]
    assert {check.state for check in checks} == {OK}, checks
    assert sorted(path.name for path in (site.folder / "model").iterdir()) == before


@pytest.mark.spark
def test_what_is_wrong_with_a_model_is_found(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.write(600, 200)
    site.train_until(monkeypatch, "before_snapshot_row:raise:3")
    site.train()
    root = site.folder / "model"
    request(Tables(site.spark, str(root)), "maintain", {}, "ann")
    found = by_name(doctor.of_model(site.spark, site.settings(), True))
    assert (found["orphans"].state, found["requests"].state, found["digest"].state, found["times"].state) == (WARN, WARN, OK, OK)
    assert "attempts that nobody committed" in found["orphans"].found and "`freshet maintain`" in found["orphans"].remedy
    deltalake.DeltaTable(str(root / "snapshots")).update({"digest": "'0123456789abcdef'"}, predicate="kind = 'start' and version > 0")
    deltalake.DeltaTable(str(root / "snapshots")).update({"committed_at": "committed_at + interval '1 hours'"}, predicate="version = 1")
    shutil.rmtree(root / "_checkpoint")
    next((root / "parameters").glob("*.parquet")).unlink()
    found = by_name(doctor.of_model(site.spark, site.settings(), True))
    assert (found["chain"].state, found["checkpoint"].state, found["digest"].state, found["times"].state) == (FAIL, FAIL, FAIL, WARN)
    assert "another digest" in found["chain"].found and "checkpoint" in found["checkpoint"].found


@pytest.mark.spark
def test_storage_that_takes_nothing_fails_the_round_trip(site: Site) -> None:
    site.folder.mkdir(exist_ok=True)
    (site.folder / "file").write_text("no folder", encoding="utf-8")
    found = by_name(doctor.of_storage(site.spark, site.settings(f"store.root={site.folder / 'file'}")))
    assert found["round trip"].state == FAIL and found["spark"].state == OK


def test_jars_that_do_not_belong_together_and_code_that_cannot_be_kept_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    delta = SimpleNamespace(package=SimpleNamespace(VERSION=lambda: "3.9.0"))
    other = SimpleNamespace(version="3.5.1", _jvm=SimpleNamespace(io=SimpleNamespace(delta=delta)))
    found = next(iter(doctor.of_storage(other, load([], {}, [f"store.root={tmp_path}"])[0])))
    assert (found.name, found.state) == ("spark", FAIL) and "Spark 3.5.1 with Delta 3.9.0" in found.found and "spark.conf" in found.remedy
    monkeypatch.setattr(doctor, "numba_cache", lambda: "/nowhere")
    assert of_machine(tmp_path)["compiled code"].state == WARN


def test_a_session_that_does_not_start_is_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(_: object) -> None:
        raise EngineRefused("The jar has another sha256.", remedy="Remove it.")

    monkeypatch.setattr("freshet.cli.running._session", refuse)
    told = CliRunner().invoke(main, ["doctor", "--set", f"store.root={tmp_path}"])
    assert told.exit_code == 1, told.output
    assert "FAIL  spark          The jar has another sha256. Remove it." in told.output and "ok    java" in told.output
