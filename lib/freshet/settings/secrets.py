"""What must not be printed: `redacted` is the only way a setting leaves the program."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

REDACTED = "[redacted]"
_SECRET_KEY = re.compile(r"(?i)secret|password|token|key|jaas|credential")
_FREE = (("spark", "conf"), ("source", "kafka", "options"), ("sink", "kafka", "options"))  # maps whose keys are not ours
# Bounded, or a long line without an end would take its square; a container of ABFS or WASB is no user.
_USER_INFO = re.compile(r"(?<!abfss://)(?<!abfs://)(?<!wasbs://)(?<!wasb://)(?<=://)[^/@\s]{1,256}@")
# ann:hunter2@host, without a scheme before it.
_USER_AND_WORD = re.compile(r"(?<![^\s/@:\[\]'\",])[^\s/@:\[\]'\",]{1,128}:[^\s/@]{1,256}@")

# ?password=hunter2, &sig=..., ;password=...: what addresses carry behind them.
_PARAMETER = re.compile(
    r"(?i)(?<=[?&;])([^=?&;\s]{0,64}(?:secret|passw|token|key|sig|credential)[^=?&;\s]{0,64}=)[^&;\s'\"]{1,4096}"
)

# password=hunter2 in the middle of a sentence, of a Java error or of an option; a partition of that name is a part of a path.
_SAID = re.compile(r"(?i)(?<![\w./-])((?:password|passwd|secret)\s*=\s*['\"]?)[^\s'\";,&]{1,4096}")


def is_free(path: Sequence[str]) -> bool:
    """Whether the path leads into a map whose keys are not ours."""
    return any(tuple(path[: len(free)]) == free for free in _FREE)


def key_shown(key: str) -> str:
    """A key as messages name it: of a map whose keys are not ours what looks like a name, for a slip may put a password there.

    >>> key_shown("source.kafka.options.kafka.sasl.jaas.config:x password=hunter2;")
    'source.kafka.options.kafka.sasl.jaas.config...'
    """
    for free in _FREE:
        begin = ".".join(free) + "."
        if key.startswith(begin):
            name = re.match(r"[A-Za-z0-9._-]*", key.removeprefix(begin))
            kept = name[0] if name else ""
            if "kafka" in free and not kept.startswith("kafka."):
                return begin.rstrip(".")
            return key if begin + kept == key else f"{begin}{kept}..."
    return key


def is_secret(path: Sequence[str]) -> bool:
    """Whether the value under this path is a secret: a key of spark.conf, or of what is passed on to Kafka, that names a
    password, token or key; and such a map itself where it was given as one text."""
    return any(
        tuple(path[: len(free)]) == free and (len(path) == len(free) or _SECRET_KEY.search(".".join(path[len(free) :])))
        for free in _FREE
    )


def redacted(value: Any, path: tuple[str, ...] = ()) -> Any:
    """The same value with secrets, and what addresses carry of user and password, replaced."""
    if isinstance(value, Mapping):
        return {name: redacted(inner, (*path, str(name))) for name, inner in value.items()}
    if is_secret(path):
        return REDACTED
    if isinstance(value, str):
        hidden = _USER_INFO.sub(f"{REDACTED}@", _USER_AND_WORD.sub(f"{REDACTED}@", value))
        return _SAID.sub(rf"\1{REDACTED}", _PARAMETER.sub(rf"\1{REDACTED}", hidden))
    if isinstance(value, list | tuple):
        return type(value)(redacted(inner, path) for inner in value)
    return value
