"""A learner in a process of its own, with secrets in every place that takes one: who can see them, and who can read its files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from machine import command_lines, listening, needs_proc
from processes import Process, start
from sites import Site

pytestmark = [pytest.mark.spark, pytest.mark.slow]

JAAS = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="ann" password="canary-jaas";'


def watched(process: Process) -> tuple[int, str, set[Any]]:
    """Exit code, command lines and addresses of a process, from looks at it until it ends."""
    lines, addresses = "", set()

    def done() -> bool:
        nonlocal lines
        lines += command_lines(process.running.pid)
        addresses.update(listening(process.running.pid))
        return process.running.poll() is not None

    while not done():
        try:
            process.running.wait(0.5)
        except subprocess.TimeoutExpired:  # it runs on
            continue
    return process.code(), lines, addresses


def configuration(folder: Path) -> Path:
    """A file with secrets, for its owner alone."""
    conf = {
        "spark.my.password": "canary-file", "spark.my.address": "jdbc:db://ann:canary-address@host/db", "spark.my.token": "canary-token",
        "spark.eventLog.enabled": "true", "spark.eventLog.dir": (folder / "log").as_uri(), "spark.eventLog.compress": "false",
        "spark.local.dir": str(folder / "local"),
    }  # fmt: skip
    (folder / "log").mkdir()
    file = folder / "shop.yaml"
    kafka = {"options": {"kafka.sasl.jaas.config": JAAS}}
    file.write_text(yaml.safe_dump({"spark": {"conf": conf, "secure": True}, "source": {"kafka": kafka}}), encoding="utf-8")
    file.chmod(0o600)
    return file


def text_of(file: Path) -> str:
    """What a file says; of Parquet its columns, which are compressed."""
    plain = file.read_bytes().decode("utf-8", "replace")
    return plain + (str(pq.read_table(file).to_pylist()) if file.suffix == ".parquet" else "")


def leaks(folder: Path, but: Path) -> list[str]:
    return [str(file) for file in sorted(folder.rglob("*")) if file.is_file() and file != but and "canary-" in text_of(file)]


def note_canaries(source: Path) -> None:
    """A user, an item and an event whose names occur nowhere else: one record that is learned, one that is refused."""
    good = {"event_id": "heron-event", "user_id": "heron-user", "item_id": "heron-item", "event_type": "click", "value": 1,
            "event_at": "2025-01-01T01:00:00Z"}  # fmt: skip
    with max(source.glob("*.json")).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(one) + "\n" for one in (good, {**good, "event_id": "heron-bad", "value": "heron-value"}))


def open_to_others(folder: Path) -> list[str]:
    return [f"{path} {stat.S_IMODE(path.stat().st_mode):o}" for path in (folder, *folder.rglob("*")) if path.stat().st_mode & 0o077]


@pytest.fixture
def umask() -> Any:
    """That of most machines: everybody may read what is created."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@needs_proc
def test_a_secured_learner_shows_no_secret_and_nobody_else_reads_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: None
) -> None:
    site = Site(None, tmp_path / "site")  # type: ignore[arg-type]  # no session here
    site.write(240, 120)
    note_canaries(site.source)
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    file = configuration(secrets)
    monkeypatch.setenv("FRESHET_SPARK__CONF__spark.hadoop.fs.s3a.secret.key", "canary-environment")
    process = start(site, "process", "--config", str(file), "--available-now")
    code, lines, addresses = watched(process)
    assert code == 0 and "caught up" in process.text(), process.text()
    assert "spark.driver.memory=1g" in lines and "canary-" not in lines and "spark.my.password" not in lines
    assert addresses and {one for one in addresses if not one.is_loopback} == set()
    logs = [one for one in (secrets / "log").rglob("*") if one.is_file()]
    assert any("spark.my.password" in one.read_text(encoding="utf-8") for one in logs)  # the log was written, and blanked
    assert leaks(tmp_path, but=file) == []
    told = [process.text(), lines, *(one.read_text(encoding="utf-8") for one in logs)]
    assert "heron" not in "".join(told)
    for table in ("events", "quarantine", "ids"):  # that is what tables are for
        assert any("heron-user" in text_of(one) for one in (site.folder / "model" / table).glob("*.parquet")), table
    assert open_to_others(site.folder / "model") == []
    assert len(list((site.folder / "model").rglob("*.parquet"))) > 5
    (tmp_path / "a leak").write_text("canary-file", encoding="utf-8")
    (site.folder / "model" / "open").touch()
    assert len(leaks(tmp_path, but=file)) == 1 and len(open_to_others(site.folder / "model")) == 1  # both would be found


@pytest.mark.parametrize("more", [(), ("--debug",)])
def test_an_address_with_a_password_is_in_no_error(tmp_path: Path, more: tuple[str, ...]) -> None:
    site = Site(None, tmp_path / "site")  # type: ignore[arg-type]
    site.write(120, 120)
    process = start(site, "process", "--available-now", *more, sets=("store.root=nowhere://ann:canary-root@host/model",))
    assert process.code() == 2
    assert "nowhere" in process.text() and "canary-" not in process.text(), process.text()


def test_who_shares_a_model_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, umask: None) -> None:
    from click.testing import CliRunner

    from freshet.cli import main

    seen: list[int] = []

    def look(*_: Any) -> Any:
        seen.append(os.umask(0o022))
        raise KeyboardInterrupt

    monkeypatch.setattr("freshet.cli.running._session", look)
    train = ["train", "--set", f"source.path={tmp_path}"]
    for chosen in ("private", "group", "inherit"):
        CliRunner().invoke(main, [*train, "--set", f"store.permissions={chosen}"])
    assert seen == [0o077, 0o027, 0o022]
    for mode in (0o700, 0o750, 0o755):  # auto: a new one is private, one that is there stays as open as it is
        root = tmp_path / f"{mode:o}"
        root.mkdir()
        root.chmod(mode)
        CliRunner().invoke(main, [*train, "--set", f"store.root={root}"])
    CliRunner().invoke(main, [*train, "--set", f"store.root={tmp_path / 'new'}"])
    assert seen[3:] == [0o077, 0o027, 0o022, 0o077]
