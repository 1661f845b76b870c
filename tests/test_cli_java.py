"""Finding Java: JAVA_HOME, then PATH, old ones refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from freshet.errors import EngineRefused
from freshet.java import find_java, main, use_java


def fake(folder: Path, banner: str) -> Path:
    """A program that answers `-version` as a Java would."""
    program = folder / "bin" / "java"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!/bin/sh\necho '{banner}' >&2\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def env(home: Path | None, path: Path | None) -> dict[str, str]:
    found = {"PATH": str(path / "bin") if path else "/nowhere"}
    return {**found, "JAVA_HOME": str(home)} if home else found


@pytest.mark.parametrize(
    ("banner", "version"),
    [('openjdk version "17.0.15" 2025-04-15', 17), ('java version "21" 2023-09-19', 21), ('version "25-ea"', 25)],
)
def test_java_home_comes_first(tmp_path: Path, banner: str, version: int) -> None:
    home, path = tmp_path / "home", tmp_path / "path"
    fake(home, banner)
    fake(path, 'version "18.0.1"')
    java = find_java(env(home, path))
    assert (java.version, java.found_in, java.program) == (version, "JAVA_HOME", home / "bin" / "java")


@pytest.mark.parametrize("banner", ['java version "1.8.0_292"', 'openjdk version "11.0.2"', "no Java at all"])
def test_an_old_java_home_does_not_hide_a_good_path(tmp_path: Path, banner: str) -> None:
    home, path = tmp_path / "home", tmp_path / "path"
    fake(home, banner)
    fake(path, 'version "18.0.1"')
    assert find_java(env(home, path)).found_in == "PATH"
    with pytest.raises(EngineRefused) as refused:
        find_java(env(home, None))
    text = str(refused.value)
    assert str(home) in text
    assert "apt install openjdk-17" in text
    assert "brew install openjdk@17" in text


def test_no_java_is_one_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("JAVA_HOME", raising=False)
    assert main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "neither JAVA_HOME nor PATH" in said.err


def test_spark_gets_the_java_that_was_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, 'version "18.0.1"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin") + os.pathsep + os.environ["PATH"])
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "gone"))
    assert use_java().found_in == "PATH"
    assert "JAVA_HOME" not in os.environ
