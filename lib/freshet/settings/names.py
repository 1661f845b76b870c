"""The names of the settings, read off the model: which dotted key leads where, and what it resembles if nowhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from freshet.settings.fields import DurationMark, Section


@dataclass(frozen=True)
class Place:
    """Where a dotted key leads: the way through sections, fields and keys of maps, and the kind of value there."""

    path: tuple[str, ...]
    kind: Any
    is_section: bool = False
    is_map: bool = False
    is_duration: bool = False

    @property
    def wants_text(self) -> bool:
        """Whether the value is text, so that an unquoted `no` or `007` stays what was written."""
        kinds = {_plain(kind) for kind in _alternatives(self.kind)} - {type(None)}
        return bool(kinds) and kinds <= {str}


def find(root: type[Section], key: str) -> Place | None:
    """The place of a dotted key, or None. What follows a map's name is the key in the map, dots included."""
    section, words = root, key.split(".")
    path: tuple[str, ...] = ()
    while True:
        field = section.model_fields.get(words[0])
        if field is None:
            return None
        path = (*path, words[0])
        words = words[1:]
        inner = _section(field.annotation)
        if inner is None:
            marked = any(isinstance(mark, DurationMark) for mark in field.metadata)
            return _leaf(path, words, field.annotation, marked)
        if not words:
            return Place(path, inner, is_section=True)
        section = inner


def _leaf(path: tuple[str, ...], words: list[str], kind: Any, is_duration: bool) -> Place | None:
    if _is_map(kind):
        if not words:
            return Place(path, kind, is_map=True)
        return Place((*path, ".".join(words)), get_args(kind)[1])
    return None if words else Place(path, kind, is_duration=is_duration)


def every(root: type[Section], prefix: tuple[str, ...] = ()) -> Iterator[Place]:
    """Every setting in the order it is declared; a map counts as one."""
    for name, field in root.model_fields.items():
        path = (*prefix, name)
        inner = _section(field.annotation)
        if inner is not None:
            yield from every(inner, path)
            continue
        marked = any(isinstance(mark, DurationMark) for mark in field.metadata)
        yield Place(path, field.annotation, is_map=_is_map(field.annotation), is_duration=marked)


def nearest(root: type[Section], key: str) -> str:
    """The known key that an unknown one resembles most, "" when none does."""
    known = [".".join(place.path) for place in every(root)]
    near = get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return near[0]
    last = key.rpartition(".")[2]
    same = [name for name in known if name.rpartition(".")[2] == last]  # the right name under the wrong section
    return same[0] if same else ""


def nearest_choice(root: type[Section], path: tuple[str, ...], given: Any) -> str:
    """The allowed value that a wrong one resembles most, "" when none does or the setting is no choice."""
    place = find(root, ".".join(path))
    if place is None or not isinstance(given, str):
        return ""
    kinds = [kind for kind in _alternatives(place.kind) if get_origin(kind) is Literal]
    choices = {str(choice).lower(): str(choice) for kind in kinds for choice in get_args(kind)}
    near = get_close_matches(given.lower(), choices, n=1)
    return choices[near[0]] if near else ""


def _section(kind: Any) -> type[Section] | None:
    return kind if isinstance(kind, type) and issubclass(kind, Section) else None


def _is_map(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _alternatives(kind: Any) -> tuple[Any, ...]:
    if get_origin(kind) is Annotated:
        return _alternatives(get_args(kind)[0])
    if get_origin(kind) in (Union, UnionType):
        return tuple(inner for part in get_args(kind) for inner in _alternatives(part))
    if get_origin(kind) is tuple:
        return _alternatives(get_args(kind)[0])
    return (kind,)


def _plain(kind: Any) -> Any:
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return kind
