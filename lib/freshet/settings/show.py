"""Settings as people read them: one line each, and where the value came from."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from freshet.settings.fields import duration_text
from freshet.settings.layers import Origins
from freshet.settings.model import Settings
from freshet.settings.names import Place, every
from freshet.settings.secrets import redacted


def lines(settings: Settings, origins: Origins | None = None) -> Iterator[str]:
    """`key = value` of every setting, secrets redacted; with `origins` also `# where it was given`.

    >>> next(lines(Settings()))
    'store.root = "freshet-data/model"'
    """
    pairs = [pair for place in every(Settings) for pair in _pairs(settings, place)]
    width = max(len(f"{key} = {text}") for key, text in pairs) if origins is not None else 0
    for key, text in pairs:
        line = f"{key} = {text}"
        yield line if origins is None else f"{line:<{min(width, 60)}}  # {origins.get(key, '')}".rstrip(" #")


def _pairs(settings: Settings, place: Place) -> Iterator[tuple[str, str]]:
    value: Any = settings
    for name in place.path:
        value = getattr(value, name)
    key = ".".join(place.path)
    if not place.is_map or not value:
        yield key, _text(value, place)
        return
    for name, inner in redacted(value, place.path).items():
        yield f"{key}.{name}", json.dumps(inner, ensure_ascii=False)


def _text(value: Any, place: Place) -> str:
    if place.is_duration:
        return '"never"' if value is None else f'"{duration_text(value)}"'
    if isinstance(value, tuple):
        value = list(value)
    return json.dumps(redacted(value, place.path), ensure_ascii=False)
