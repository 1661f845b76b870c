"""What must not be printed: `redacted` is the only way a setting leaves the program."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "[redacted]"
_SECRET_KEY = re.compile(r"(?i)secret|password|token|key|jaas|credential")
_FREE = (("spark", "conf"), ("source", "kafka", "options"), ("sink", "kafka", "options"))  # maps whose keys are not ours
_USER_INFO = re.compile(r"(?<=://)[^/@\s]+@")


def is_secret(path: Sequence[str]) -> bool:
    """Whether the value under this path is a secret: a key of spark.conf, or of what is passed on to Kafka, that names a
    password, token or key."""
    return any(
        len(path) > len(free) and tuple(path[: len(free)]) == free and _SECRET_KEY.search(".".join(path[len(free) :]))
        for free in _FREE
    )


def redacted(value: Any, path: tuple[str, ...] = ()) -> Any:
    """The same value with secrets, and user information inside of addresses, replaced."""
    if isinstance(value, Mapping):
        return {name: redacted(inner, (*path, str(name))) for name, inner in value.items()}
    if is_secret(path):
        return REDACTED
    if isinstance(value, str):
        return _USER_INFO.sub(f"{REDACTED}@", value)
    if isinstance(value, list | tuple):
        return type(value)(redacted(inner, path) for inner in value)
    return value
