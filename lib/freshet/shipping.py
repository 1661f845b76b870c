"""Shard tasks as bytes, so that they can travel to executors and their results back.

A payload is a JSON header (names, dtypes, shapes, plain values) and the arrays' own bytes after it: nothing that could
run code when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np

from freshet.models import make_model
from freshet.models.contract import Model, ShardResult, ShardTask
from freshet.settings import ModelSettings

_LENGTH = 8  # bytes of the header's length
_PARTS = ("rows", "counts", "refs")
_OF_EXAMPLES = ("target", "weight", "draws", "offset", "trust")
_OF_RESULT = ("prediction", "loss", "moved")


def pack(arrays: Mapping[str, np.ndarray], plain: Mapping[str, Any]) -> bytes:
    """One byte string of named arrays and of plain JSON values."""
    fields = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    header = json.dumps({"fields": fields, "plain": plain}).encode()
    body = [np.ascontiguousarray(array).tobytes() for array in arrays.values()]
    return b"".join([len(header).to_bytes(_LENGTH, "little"), header, *body])


def unpack(payload: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What `pack` was given; the arrays are copies that can be written."""
    at = _LENGTH + int.from_bytes(payload[:_LENGTH], "little")
    header = json.loads(payload[_LENGTH:at])
    arrays = {}
    for name, dtype, shape in header["fields"]:
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(payload, np.dtype(dtype), count, at).reshape(shape).copy()
        at += arrays[name].nbytes
    return arrays, header["plain"]


def pack_task(task: ShardTask, model: str) -> bytes:
    """A task for `learn_payload`; `model` is the JSON text of the model's settings."""
    arrays = {f"{part}/{block}": array for part in _PARTS for block, array in getattr(task, part).items()}
    return pack({**arrays, **{name: getattr(task, name) for name in _OF_EXAMPLES}}, {"model": model})


def unpack_result(payload: bytes) -> ShardResult:
    """What `learn_payload` returned."""
    arrays, plain = unpack(payload)
    return ShardResult(
        _group(arrays, "rows"), _group(arrays, "contraction"), _group(arrays, "touched"),
        arrays["prediction"], arrays["loss"], plain["capped"], arrays["moved"],
    )


def learn_payload(payload: bytes) -> bytes:
    """Learn a packed task and pack the result: what an executor runs."""
    arrays, plain = unpack(payload)
    task = ShardTask(
        _group(arrays, "rows"), _group(arrays, "counts"), _group(arrays, "refs"), *(arrays[name] for name in _OF_EXAMPLES),
    )
    result = _model(plain["model"]).learn(task)
    packed = {
        f"{part}/{block}": array
        for part in ("rows", "contraction", "touched") for block, array in getattr(result, part).items()
    }
    return pack({**packed, **{name: getattr(result, name) for name in _OF_RESULT}}, {"capped": int(result.capped)})


@lru_cache(maxsize=8)
def _model(settings: str) -> Model:
    return make_model(ModelSettings.model_validate_json(settings))


def _group(arrays: Mapping[str, np.ndarray], part: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(f"{part}/"): array for name, array in arrays.items() if name.startswith(f"{part}/")}
