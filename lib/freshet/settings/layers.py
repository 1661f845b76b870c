"""Settings come in layers, the later one wins: default.yaml, --config files, the environment, flags.

Nothing is accepted piecemeal: every layer is read, every value checked, and all problems are refused together.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from freshet.errors import SettingsError
from freshet.settings.document import Given, Word
from freshet.settings.giving import DEFAULTS, PREFIX, Flag, defaults, from_environment, from_file, from_flags
from freshet.settings.model import Settings
from freshet.settings.names import Place, every, find, nearest, nearest_choice
from freshet.settings.problems import Problem, refuse
from freshet.settings.secrets import REDACTED, is_free, is_secret, key_shown, redacted
from freshet.settings.wanted import wanted

# What a challenger may have otherwise, and what of that it may not: events and the sample that is ranked are the same for all.
OWN, SHARED = ("model", "popularity", "history", "window", "guard"), ("model.features", "model.seed")

Origins = Mapping[str, str]
"""Dotted key -> where its value was given: file:line, the variable or the flag."""


def load(
    configs: Sequence[str | Path] = (),
    env: Mapping[str, str] | None = None,
    sets: Sequence[str] = (),
    *,
    flags: Sequence[Flag] = (),
    required: Sequence[str] = (),
) -> tuple[Settings, Origins]:
    """The settings of these layers and where each value came from, or SettingsError with every problem there is.

    `configs` are YAML files, `env` the environment (FRESHET_A__B), `sets` texts `a.b=value`. `required` names settings
    that must not be null; Kafka needs no source.path.
    """
    problems: list[Problem] = []
    given: list[Given] = []
    files = [from_file(path) for path in configs]
    for values, wrong in (defaults(), *files, from_environment(env or {}), from_flags(sets, flags)):
        given += values
        problems += wrong
    layers = _Layers(problems)
    for value in given:
        layers.put(value)
    settings = layers.settings()
    if all(values or not wrong for values, wrong in files):  # what is missing may stand in a file that could not be read
        elsewhere = {"source.path"} if layers.values.get(("source", "format")) == "kafka" else set()
        absent = [key for key in required if layers.values.get(tuple(key.split("."))) is None]
        problems += [_missing(key) for key in absent if key not in elsewhere]
    if settings is not None:
        problems += _challengers(settings, layers.origins)
    refuse(problems)
    assert settings is not None
    return settings, layers.origins


def over(settings: Settings, sets: Sequence[str]) -> Settings:
    """What a challenger with these texts `a.b=value` learns with: the settings but for them, and no challengers of its own.

    Raises SettingsError with every problem there is; such is a key of what must be the same for all that are compared.
    """
    given, problems = from_flags(sets, ())
    layers = _Layers(problems)
    for place in every(Settings):
        value: Any = settings
        for name in place.path:
            value = getattr(value, name)
        inside = {(*place.path, key): one for key, one in value.items()} if place.is_map else {place.path: value}
        layers.values |= {path: one for path, one in inside.items() if path[0] != "challengers"}
    for one in given:
        if one.key.partition(".")[0] not in OWN or one.key.startswith(SHARED):
            wanted = f"a setting of {', '.join(OWN)}, but none of {', '.join(SHARED)}: the rest is the same for all"
            problems.append(Problem(one.key, one.where, "what is not a challenger's own", wanted))
        else:
            layers.put(one)
    made = layers.settings()
    refuse(problems)
    assert made is not None
    return made


def _challengers(settings: Settings, origins: Origins) -> list[Problem]:
    """What is wrong with the challengers' own settings."""
    found: list[Problem] = []
    for name, texts in settings.challengers.learners.items():
        key = f"challengers.learners.{name}"
        try:
            over(settings, texts)
        except SettingsError as error:
            problems = cast(tuple[Problem, ...], error.facts["problems"])
            found += [replace(one, key=key, where=origins[key], given=f"{one.key} {one.given}") for one in problems]
    return found


class _Layers:
    """Values by path, each from the last layer that gave it, and the problems found on the way."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        self.values: dict[tuple[str, ...], Any] = {}
        self.where: dict[tuple[str, ...], str] = {}
        self._files: dict[tuple[tuple[str, ...], str], str] = {}

    def put(self, given: Given) -> None:
        place = find(Settings, given.key)
        if place is None:
            near = nearest(Settings, given.key)
            self.problems.append(Problem(given.key, given.where, "an unknown setting", "a known one", near))
            return
        if place.is_section:
            if given.value not in (None, Word(None, ""), Word(None, "null"), Word(None, "~")):
                self._refuse(given, place, "a section of settings")
            return
        if place.is_map:
            self._empty_map(given, place)
            return
        if self._twice(given, place):
            return
        self.values[place.path] = _converted(given, place)
        self.where[place.path] = given.where

    def _twice(self, given: Given, place: Place) -> bool:
        """The same setting once nested and once dotted in one file: no layer, so nobody wins."""
        file = given.where.rpartition(":")[0]
        first = self._files.setdefault((place.path, file), given.where) if file else given.where
        if first == given.where:
            return False
        self._refuse(given, place, f"each setting once (first at {first})")
        return True

    def _empty_map(self, given: Given, place: Place) -> None:
        if isinstance(given.value, tuple) or (isinstance(given.value, Word) and given.value.value is not None):
            self._refuse(given, place, "a map (key: value)")
            return
        for path in [path for path in self.values if path[: len(place.path)] == place.path]:
            del self.values[path], self.where[path]
        self.where[place.path] = given.where

    def _refuse(self, given: Given, place: Place, what: str) -> None:
        self.problems.append(Problem(given.key, given.where, shown(_converted(given, place), place.path), what))

    def settings(self) -> Settings | None:
        """The settings, or None and every problem of a value noted.

        What is refused is taken out and the rest is checked again, so that settings which do not go together are
        found beside settings which are wrong by themselves.
        """
        refused: set[tuple[str, ...]] = set()
        left = dict(self.values)
        while True:
            try:
                settings = Settings.model_validate(_tree(left))
            except ValidationError as error:
                found = {self._note(detail, refused) for detail in error.errors(include_url=False)}
                if found <= refused:
                    return None
                refused |= found
                left = {path: value for path, value in self.values.items() if not _under(path, refused)}
            else:
                return None if refused else settings

    def _note(self, detail: ErrorDetails, refused: set[tuple[str, ...]]) -> tuple[str, ...]:
        """Note the problem behind an error of pydantic and return the path to leave out."""
        path = tuple(str(part) for part in detail["loc"] if part != "[key]")
        names = detail.get("ctx", {}).get("settings", ())
        keys = [(*path, *name.split(".")) for name in names] or [path]
        if any(_under(key, refused) for key in keys):  # compared with a default that nobody chose
            return path
        where = ", ".join(dict.fromkeys(self._origin(key) for key in keys))
        if keys == [path]:
            given = shown(detail["input"], path)
        else:
            given = " and ".join(f"{name} = {shown(self._current(key), key)}" for name, key in zip(names, keys, strict=True))
        near = nearest_choice(Settings, path, detail["input"])
        key = ".".join(keys[0])
        if "[key]" in detail["loc"] and is_free(path):
            key, given, near = ".".join(path[:-1]), "a name that is not taken there", ""  # it may be the half of a password
        self.problems.append(Problem(key_shown(key), where, given, wanted(detail), near))
        return path

    def _current(self, path: tuple[str, ...]) -> Any:
        inside = {key[-1]: value for key, value in self.values.items() if key[:-1] == path}
        return self.values.get(path, inside)

    def _origin(self, path: tuple[str, ...]) -> str:
        """Where the value was given: an item of a list where the list is, a map where its last key is."""
        inside = [where for key, where in self.where.items() if key[:-1] == path]
        if inside:
            return inside[-1]
        for end in range(len(path), 0, -1):
            if path[:end] in self.where:
                return self.where[path[:end]]
        return DEFAULTS

    @property
    def origins(self) -> Origins:
        """Origin of every setting and of every key of a map."""
        known = {".".join(path): where for path, where in self.where.items()}
        return {".".join(place.path): known.get(".".join(place.path), DEFAULTS) for place in every(Settings)} | known


def _tree(values: Mapping[tuple[str, ...], Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, value in values.items():
        section = tree
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = value
    return tree


def _under(path: tuple[str, ...], refused: set[tuple[str, ...]]) -> bool:
    return any(path[:end] in refused for end in range(1, len(path) + 1))


def _converted(given: Given, place: Place) -> Any:
    """The value as its place wants it: text stays as written, except for an unquoted null."""
    if isinstance(given.value, tuple):
        return tuple(_text_or_value(word, place) for word in given.value)
    return {} if given.value is None else _text_or_value(given.value, place)


def _text_or_value(word: Word, place: Place) -> Any:
    keep = place.wants_text and word.plain is not None and word.value is not None
    return word.plain if keep else word.value


def shown(value: Any, path: tuple[str, ...]) -> str:
    """A value as a message may show it: as JSON, secrets redacted."""
    if is_secret(path):
        return REDACTED
    try:
        return json.dumps(redacted(value, path), ensure_ascii=False, default=str)
    except ValueError:
        return str(value)


def _missing(key: str) -> Problem:
    variable = PREFIX + key.replace(".", "__").upper()
    return Problem(key, "", "nothing", f"a value: --set {key}=..., {variable}=..., or a --config file")
