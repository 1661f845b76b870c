"""What the layers say, each value with where it was said: default.yaml, --config files, the environment, flags."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

from freshet.settings.document import Given, Word, read
from freshet.settings.model import Settings
from freshet.settings.names import find
from freshet.settings.problems import Problem

DEFAULTS = "default.yaml"
PREFIX = "FRESHET_"
# Variables of the process that are no settings; and what Kubernetes gives every pod beside a service named freshet.
_NO_SETTING = re.compile(PREFIX + r"(DEBUG|FAILPOINTS|FAILPOINT_MARKS|SERVICE_(HOST|PORT)(_.*)?|PORT(_.*)?)")

Flag = tuple[str, str, str]
"""(flag as people write it, dotted key, value as text) of a command line option that stands for a setting."""


def default_text() -> str:
    """The packaged default.yaml."""
    return resources.files("freshet.settings").joinpath(DEFAULTS).read_text(encoding="utf-8")


def defaults() -> tuple[list[Given], list[Problem]]:
    return read(default_text(), lambda line: f"{DEFAULTS}:{line}")


def from_file(path: str | Path) -> tuple[list[Given], list[Problem]]:
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        return [], [Problem("", f"--config {path}", f"none that can be read ({reason})", "a YAML file")]
    return read(text, lambda line: f"{path}:{line}")


def from_environment(env: Mapping[str, str]) -> tuple[list[Given], list[Problem]]:
    values: list[Given] = []
    problems: list[Problem] = []
    for name in sorted(env):
        if not name.startswith(PREFIX):
            continue
        if _NO_SETTING.fullmatch(name):
            continue
        got, wrong = _text(env[name], name, _lower(name.removeprefix(PREFIX).split("__")))
        values += got
        problems += wrong
    return values, problems


def _text(text: str, where: str, key: str) -> tuple[list[Given], list[Problem]]:
    """The value of one variable or flag; an empty text is null, and not as if nothing had been said."""
    got, wrong = read(text, lambda _line: where, key)
    return got or ([] if wrong else [Given(key, Word(None, ""), where)]), wrong


def _lower(words: Sequence[str]) -> str:
    """Dotted key of a variable: lower case, but for the keys of a map, which are taken as written."""
    for end in range(1, len(words) + 1):
        place = find(Settings, ".".join(words[:end]).lower())
        if place is not None and place.is_map:
            return ".".join([".".join(words[:end]).lower(), *words[end:]])
    return ".".join(words).lower()


def from_flags(sets: Sequence[str], flags: Sequence[Flag]) -> tuple[list[Given], list[Problem]]:
    values: list[Given] = []
    problems: list[Problem] = []
    entries = [(f"--set {text.partition('=')[0]}", *text.partition("=")[::2]) for text in sets if "=" in text]
    problems += [Problem("", f"--set {text}", "no =", "key=value") for text in sets if "=" not in text]
    for flag, key, text in (*entries, *flags):
        got, wrong = _text(text, flag, key.strip())
        values += got
        problems += wrong
    return values, problems
