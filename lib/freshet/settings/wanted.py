"""What was wanted, in words: one sentence part for each kind of refusal of a value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "tuple_type": "a list of texts",
    "mapping_type": "a map (key: value)",
    "dict_type": "a map (key: value)",
    "model_type": "a section of settings",
    "missing": "a value",
}

_BOUNDS = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "more than {gt}",
    "less_than_equal": "at most {le}",
    "less_than": "less than {lt}",
    "string_too_short": "text of at least {min_length} characters",
    "string_too_long": "text of at most {max_length} characters",
    "literal_error": "one of {expected}",
    "string_pattern_mismatch": 'a size such as "4g" or "512m"',
    "duration": "{wanted}",
    "event_field": "{wanted}",
    "related": "{wanted}",
    "edges": "{wanted}",
    "actions": "{wanted}",
}


def wanted(error: Mapping[str, Any]) -> str:
    """The words for one error of pydantic; its own message where we have none."""
    kind = error["type"]
    if kind in _BOUNDS:
        return _BOUNDS[kind].format(**error.get("ctx", {}))
    return _KINDS.get(kind, str(error["msg"]))
