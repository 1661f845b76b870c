"""YAML as settings use it: plain values with the line they stand on, and nothing that surprises.

Only null, true, false, numbers and text are known, so `no` and `12:30` are text. Twice the same key, tags, anchors and
aliases are refused. Every problem of a document is found, not just the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import yaml

from freshet.settings.problems import Problem

Scalar = str | int | float | bool | None

_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\d+\.\d*|\.\d+|\d+)([eE][-+]?\d+)?")
_TAG_PREFIX = "tag:yaml.org,2002:"
_OWN_TAGS = {f"{_TAG_PREFIX}{name}" for name in ("str", "map", "seq")}


@dataclass(frozen=True)
class Word:
    """A scalar: what it means, and the text it was written as (None when it stood in quotes: then it is text)."""

    value: Scalar
    plain: str | None = None


@dataclass(frozen=True)
class Given:
    """One value under its dotted key, and where it was given."""

    key: str
    value: Word | tuple[Word, ...] | None  # None: an empty section or map
    where: str


class _Loader(yaml.SafeLoader):
    """Composes nodes only; no tag is resolved, no object is constructed."""


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # not in every build of PyYAML
    """The same in C: twelve times as fast."""


_Loader.yaml_implicit_resolvers = _FastLoader.yaml_implicit_resolvers = {}


def meaning(text: str) -> Scalar:
    """What an unquoted text means: `1e-6` -> 1e-06, `yes` -> "yes", `~` -> None."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text.replace("_", ""))
    return float(text) if _FLOAT.fullmatch(text) else text


def read(text: str, place: Callable[[int], str], key: str = "") -> tuple[list[Given], list[Problem]]:
    """Every value of a YAML document with its dotted key; `place(line)` names a line, `key` prefixes keys."""
    problems: list[Problem] = []
    try:
        node = _compose(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        return [], [_unreadable(key, place(line), ", ".join(filter(None, (error.context, error.problem))))]
    except yaml.YAMLError as error:
        return [], [_unreadable(key, place(1), str(error).splitlines()[0])]
    if node is None:
        return [], []
    reader = _Reader(place, problems)
    return list(reader.values(node, key)), problems


def _unreadable(key: str, where: str, why: str) -> Problem:
    return Problem(key, where, f"text that is not YAML ({why})", "a YAML document")


def _compose(text: str) -> yaml.Node | None:
    try:
        return _composed(_FastLoader(text))
    except yaml.YAMLError:
        return _composed(_Loader(text))  # says better what is wrong


def _composed(loader: yaml.SafeLoader) -> yaml.Node | None:
    try:
        return loader.get_single_node()
    finally:
        loader.dispose()


@dataclass
class _Reader:
    place: Callable[[int], str]
    problems: list[Problem]
    seen: set[int] | None = None

    def values(self, node: yaml.Node, key: str) -> Iterator[Given]:
        where = self.place(node.start_mark.line + 1)
        if not self._allowed(node, key, where):
            return
        if isinstance(node, yaml.MappingNode):
            yield from self._mapping(node, key, where)
        elif isinstance(node, yaml.SequenceNode):
            words = [self._word(item, key) for item in node.value]
            if all(word is not None for word in words):
                yield Given(key, tuple(word for word in words if word is not None), where)
        else:
            yield Given(key, _word(node), where)

    def _mapping(self, node: yaml.MappingNode, key: str, where: str) -> Iterator[Given]:
        if not node.value:
            yield Given(key, None, where)
        first: dict[str, str] = {}
        for name_node, value_node in node.value:
            here = self.place(name_node.start_mark.line + 1)
            if not isinstance(name_node, yaml.ScalarNode):
                self.problems.append(Problem(key, here, "a key that is not text", "a name"))
                continue
            name = f"{key}.{name_node.value}" if key else name_node.value
            if name in first:
                self.problems.append(Problem(name, here, f"the key a second time (first at {first[name]})", "each key once"))
                continue
            first[name] = here
            yield from self.values(value_node, name)

    def _word(self, node: yaml.Node, key: str) -> Word | None:
        where = self.place(node.start_mark.line + 1)
        if not self._allowed(node, key, where):
            return None
        if not isinstance(node, yaml.ScalarNode):
            self.problems.append(Problem(key, where, "a list with something nested in it", "a list of plain values"))
            return None
        return _word(node)

    def _allowed(self, node: yaml.Node, key: str, where: str) -> bool:
        self.seen = self.seen or set()
        if id(node) in self.seen:
            self.problems.append(Problem(key, where, "an alias (*name)", "the value itself"))
            return False
        self.seen.add(id(node))
        if node.tag not in _OWN_TAGS:
            self.problems.append(Problem(key, where, f"the tag {node.tag.replace(_TAG_PREFIX, '!!')}", "a plain value"))
            return False
        return True


def _word(node: yaml.Node) -> Word:
    quoted = isinstance(node, yaml.ScalarNode) and bool(node.style)
    return Word(node.value) if quoted else Word(meaning(node.value), node.value)
