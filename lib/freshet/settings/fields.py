"""The kinds of value a setting can have."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from freshet.settings.secrets import redacted

_UNIT_SECONDS = {
    "millisecond": 0.001, "second": 1.0, "minute": 60.0, "hour": 3600.0, "day": 86400.0, "week": 604800.0,
}
_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(millisecond|second|minute|hour|day|week)s?\s*")
_DURATION_WANTED = 'a duration such as "45 minutes", "2 hours" or "7 days" (a bare number is seconds)'


class Section(BaseModel):
    """A group of settings: frozen, strict in types, and without room for an unknown key."""

    _place: ClassVar[tuple[str, ...]] = ()  # path of the section, where secrets are found by it

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, redacted(value, (*self._place, name or ""))


class DurationMark:
    """Says that a number is seconds and that people write it as a duration."""


def seconds(given: Any) -> float:
    """Seconds of a duration: `"45 minutes"` -> 2700.0; a number is seconds already."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        return float(given)
    match = _DURATION.fullmatch(given) if isinstance(given, str) else None
    if match is None:
        raise PydanticCustomError("duration", "{wanted}", {"wanted": _DURATION_WANTED})
    return float(match[1]) * _UNIT_SECONDS[match[2]]


def duration_text(value: float) -> str:
    """The shortest exact way to write seconds as a duration: 2700.0 -> `45 minutes`."""
    for unit in ("day", "hour", "minute", "second", "millisecond"):
        length = _UNIT_SECONDS[unit]
        count = value / length
        if count >= 1 and count == int(count):
            return f"{int(count)} {unit}{'' if count == 1 else 's'}"
    return f"{value:g} seconds"


def _seconds_or_never(given: Any) -> float | None:
    return None if given is None or given == "never" else seconds(given)


def as_tuple(given: Any) -> Any:
    """A list as a tuple; anything else as it is, for the type to refuse."""
    return tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else given


def related(message: str, *settings: str) -> PydanticCustomError:
    """The error of settings of one section that are each right and do not go together."""
    return PydanticCustomError("related", "{wanted}", {"wanted": message, "settings": settings})


Duration = Annotated[float, BeforeValidator(seconds), Field(gt=0), DurationMark()]
DurationOrNever = Annotated[
    Annotated[float, Field(gt=0)] | None, BeforeValidator(_seconds_or_never), DurationMark()
]
Texts = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Text = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
