"""Picking from a registry: one visible dict of names, and an unknown name told what it could have meant."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import TypeVar

from freshet.errors import UnknownName

Entry = TypeVar("Entry")


def pick(kind: str, name: str, registry: Mapping[str, Entry]) -> Entry:
    """Return `registry[name]`; else raise `UnknownName` with `known` names and the `nearest` ("" if none).

    >>> pick("merge rule", "sum", {"sum": 1, "average": 2})
    1
    """
    if name in registry:
        return registry[name]
    known = sorted(registry)
    near = get_close_matches(name, known, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else ""
    raise UnknownName(
        f"unknown {kind} {name!r}; known: {', '.join(known)}.",
        remedy=remedy, kind=kind, name=name, known=known, nearest=near[0] if near else "",
    )
