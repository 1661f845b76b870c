"""What is printed to be pasted is found by the shell, and is one word of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from freshet.program import program, quoted

SQL = "select version from snapshots where kind = 'learn' order by version desc limit 5"


@pytest.mark.parametrize("text", [SQL, "select 'a'", 'say "so"', "costs $5", "`x`", "a\\b", "wow!"])
def test_a_pasted_query_is_one_word(text: str) -> None:
    assert shlex.split(quoted(text)) == [text]
    if text == SQL:
        assert quoted(text) == f'"{text}"'


def test_the_program_is_named_so_that_a_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ".venv" / "bin"
    folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", "/nowhere")
    assert program() == "freshet"  # no script at all: no path would be right
    script = folder / "freshet"
    script.touch(mode=0o755)
    assert program() == str(script)
    monkeypatch.chdir(tmp_path)
    assert program() == ".venv/bin/freshet"
    monkeypatch.setenv("PATH", str(folder))
    assert program() == "freshet"
