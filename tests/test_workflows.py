"""Templates for schedulers: they parse, what they call is there, exit codes lead where they should; and each check can fail."""

from __future__ import annotations

import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import click
import pytest

from freshet.cli import main

FOLDER = Path(__file__).parents[1] / "docs" / "workflows"
FIELDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # minute, hour, day of month, month, day of week


def calls(command: str) -> Iterator[list[str]]:
    """The words after each `freshet` of a shell command, up to where the shell takes over."""
    command = re.sub(r"\{\{.*?\}\}|\$\([^)]*\)", "7", command)  # what stands for a value by then
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found: list[str] | None = None
    for word in [*lexer, ";"]:
        if found is not None and set(word) <= set("();<>|&"):
            yield found
            found = None
        elif found is not None:
            found.append("7" if word.startswith("$") else word)
        elif word == "freshet":
            found = []


def check(command: str) -> list[str]:
    """The commands that are called, in order. Raises UsageError for options that are not there, AssertionError for no shell."""
    assert subprocess.run(["bash", "-n", "-c", command], check=False).returncode == 0, command
    names = []
    for name, *words in calls(command):
        words = words[:-1] if words and words[-1] == "2" else words  # of 2>>log
        if name not in main.commands:
            raise click.UsageError(f"no command {name}")
        main.commands[name].make_context(name, words)
        names.append(name)
    return names


class Operator:
    """BashOperator and DAG as far as a template needs them."""

    made: ClassVar[dict[str, Operator]] = {}

    def __init__(self, task_id: str = "", bash_command: str = "", **more: Any) -> None:
        self.name, self.command, self.more, self.after = task_id, bash_command, more, []
        Operator.made[task_id] = self

    def __rshift__(self, other: Operator) -> Operator:
        self.after.append(other.name)
        return other

    def __enter__(self) -> Operator:
        return self

    def __exit__(self, *_: object) -> None:
        return None


@pytest.fixture(params=["airflow.providers.standard.operators.bash", "airflow.operators.bash"])
def tasks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Operator]:
    """The tasks of the DAG, as Airflow 3 and 2 would find them."""
    words = request.param.split(".")
    for end in range(1, len(words) + 1):
        monkeypatch.setitem(sys.modules, ".".join(words[:end]), ModuleType(words[end - 1]))
    sys.modules["airflow"].DAG = lambda dag_id, **more: Operator(dag_id, **more)  # type: ignore[attr-defined]
    sys.modules[request.param].BashOperator = Operator  # type: ignore[attr-defined]
    Operator.made = {}
    runpy.run_path(str(FOLDER / "airflow_dag.py"))
    return Operator.made


def test_the_dag_calls_what_is_there_in_an_order_that_makes_sense(tasks: dict[str, Operator]) -> None:
    dag = tasks.pop("freshet_shop")
    assert dag.more["max_active_runs"] == 1 and dag.more["catchup"] is False
    called = {name: check(task.command) for name, task in tasks.items()}
    assert called == {name: ["status" if name == "version" else name] for name in tasks}
    assert {name: task.after for name, task in tasks.items() if task.after} == {
        "version": ["train"], "train": ["recommend", "evaluate"], "recommend": ["retrain"], "retrain": ["maintain"],
    }
    for task in tasks.values():
        assert task.more["skip_on_exit_code"] == 1
    # A gate that says no skips its task, and lists are made all the same.
    assert {name for name, task in tasks.items() if task.more.get("trigger_rule") == "none_failed"} == {"train", "recommend", "retrain", "maintain"}


def lines() -> list[str]:
    text = (FOLDER / "crontab").read_text(encoding="utf-8")
    assert text.endswith("\n"), "cron passes by a last line without an end"
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def entry(line: str) -> tuple[list[str], str]:
    """Fields and command of a line of a crontab, as cron hands it to the shell. Raises AssertionError for what is none."""
    *fields, command = line.split(None, 5)
    assert len(fields) == 5, line
    for field, (low, high) in zip(fields, FIELDS, strict=True):
        for part in field.split(","):
            found = re.fullmatch(r"(\*|(\d+)(?:-(\d+))?)(?:/[1-9]\d*)?", part)
            assert found, f"{part} in {line}"
            assert all(low <= int(number) <= high for number in found.groups()[1:] if number), f"{part} in {line}"
    assert not re.search(r"(?<!\\)%", command), f"cron ends the command at a % in {line}"
    return fields, command.replace(r"\%", "%")


def test_every_line_of_the_crontab_is_one_and_calls_what_is_there() -> None:
    names = dict(line.split("=", 1) for line in lines() if re.match(r"[A-Z]+=", line))
    assert set(names) == {"SHELL", "PATH", "MAILTO", "CONFIG", "STATE", "LOG", "SAY"}
    commands = [entry(line)[1] for line in lines() if not re.match(r"[A-Z]+=", line)]
    assert [check(command) for command in commands] == [
        ["train"], ["evaluate"], ["status"], ["retrain"], ["recommend"], ["maintain"]]
    assert all(set(re.findall(r"\$([A-Z]+)", command)) <= set(names) for command in commands)
    assert all(command.endswith('|| eval "$SAY"') for command in commands if "freshet status" not in command)


@pytest.mark.parametrize(("code", "said"), [(0, ""), (1, "a gate or check said no: freshet decisions"), (2, "refused or crashed: see the log")])
def test_cron_has_a_letter_for_each_exit_code_but_0(code: int, said: str) -> None:
    say = next(line for line in lines() if line.startswith("SAY=")).removeprefix("SAY=")
    done = subprocess.run(
        ["bash", "-c", f'(exit {code}) || eval "$SAY"'], env={"SAY": say}, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == said and not done.stderr


@pytest.mark.parametrize(
    "line", ["61 * * * * freshet status", "* * * * freshet", "*/0 * * * * freshet status", "0 0 * * * date +%F", "0 0 * * x freshet"])
def test_a_line_that_is_none_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        entry(line)


@pytest.mark.parametrize("command", ["freshet recommend --al", "true && freshet nothing", "freshet train --available-now --every 5"])
def test_a_command_that_is_not_there_is_found(command: str) -> None:
    with pytest.raises(click.UsageError):
        check(command)
    with pytest.raises(AssertionError):
        check(f"{command} '")
