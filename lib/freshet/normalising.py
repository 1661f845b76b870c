"""Values on another scale while they are learned, and rows that begin where plain means are; the rows that come out say values.

    mean      v' = v - mean                                   z-score   v' = (v - mean) / standard deviation
    min-max   v' = (v - min) / (max - min)
    offsets   rows begin at the mean and at the damped biases
                  b_i = sum over i's events of (v - mean) / (25 + events of i)
                  b_u = sum over u's events of (v - mean - b_i) / (10 + events of u)

What was learned of v' = (v - shift) / scale says v again with

    mean = scale mean' + shift      b = scale b'      p = sqrt(scale) p', q = sqrt(scale) q'

Damped biases after Koren, TKDD 4(1), 2010, section 2.1.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace

import numpy as np

from freshet.head import Head
from freshet.kernels.digest import block_seed
from freshet.kernels.seeds import initial_rows
from freshet.models.contract import ITEM, USER, Block, Context, Events, Examples, Model, Rows
from freshet.models.mf import MEAN_KEY

NONE, MEAN, OFFSETS, MIN_MAX, Z_SCORE = "none", "mean", "offsets", "min-max", "z-score"
NORMALISATIONS = (NONE, MEAN, OFFSETS, MIN_MAX, Z_SCORE)
ITEM_DAMPING, USER_DAMPING = 25.0, 10.0


@dataclass(frozen=True)
class Scale:
    """v' = (v - shift) / scale"""

    shift: float
    scale: float


def scale_of(how: str, values: np.ndarray) -> Scale | None:
    """The scale of values float64[n]; None where they are learned as they are. Values that are all alike keep their scale."""
    if how in (NONE, OFFSETS):
        return None
    shift = values.min() if how == MIN_MAX else values.mean()
    wide = {MEAN: 1.0, MIN_MAX: np.ptp(values), Z_SCORE: values.std()}[how]
    return Scale(float(shift), float(wide) or 1.0)


def scaled(model: Model, scale: Scale) -> Model:
    """The model, whose examples have their values on the scale."""

    def examples(events: Events, context: Context) -> Examples:
        made = model.examples(events, context)
        return replace(made, target=((made.target - scale.shift) / scale.scale).astype(np.float32))

    other = copy.copy(model)
    setattr(other, "examples", examples)  # noqa: B010
    return other


def unscaled(head: Head, scale: Scale) -> Head:
    """Turn the rows of mf in the head, learned on the scale, into rows that say values; the same head."""
    for name in ("mean", USER, ITEM):
        rows, _ = head.gather(name, head.tables[name].keys.copy())
        rows.values[:, 0] *= np.float32(scale.scale)
        rows.values[:, 1 : head.blocks[name].width] *= np.float32(scale.scale**0.5)
        if name == "mean":
            rows.values[:, 0] += np.float32(scale.shift)
        head.put(name, rows)
    return head


def offsets(events: Events) -> tuple[float, dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """(mean, for users and items: their keys int64[r], which of them each event has int64[n], their damped biases float64[r])."""
    users, user = np.unique(events.user_key, return_inverse=True)
    items, item = np.unique(events.item_key, return_inverse=True)
    mean = float(events.value.mean())
    of_item = _damped(events.value - mean, item, ITEM_DAMPING)
    of_user = _damped(events.value - mean - of_item[item], user, USER_DAMPING)
    return mean, {USER: (users, user, of_user), ITEM: (items, item, of_item)}


def _damped(value: np.ndarray, group: np.ndarray, damping: float) -> np.ndarray:
    return np.asarray(np.bincount(group, value) / (np.bincount(group) + damping))


def begun(model: Model, events: Events, seed: int, vectors: dict[str, np.ndarray] | None = None) -> dict[str, Rows]:
    """Rows of mf with the mean and the damped biases of the events; vectors as given by block, float32[r, k] in ascending order
    of keys, else those of new rows."""
    blocks = {block.name: block for block in model.blocks()}
    mean, found = offsets(events)
    whole = np.zeros(len(events), np.int64)
    rows = {"mean": _rows(blocks["mean"], np.array([MEAN_KEY]), np.array([mean]), None, whole, events)}
    for name, (keys, which, bias) in found.items():
        own = np.zeros((len(keys), blocks[name].width), np.float32)
        initial_rows(keys, own, blocks[name].init_scale, seed ^ block_seed(name), blocks[name].zeros)
        rows[name] = _rows(blocks[name], keys, bias, own[:, 1:] if vectors is None else vectors[name], which, events)
    return rows


def _rows(
    block: Block, keys: np.ndarray, bias: np.ndarray, vectors: np.ndarray | None, which: np.ndarray, events: Events,
) -> Rows:
    values = np.zeros((len(keys), block.width + block.slots), np.float32)
    values[:, 0] = bias
    if vectors is not None:
        values[:, 1 : block.width] = vectors
    last_at = np.zeros(len(keys), np.int64)
    np.maximum.at(last_at, which, events.event_at)
    none = np.empty((len(keys), 0), np.int64)
    return Rows(keys, values, none, np.zeros(len(keys), np.int32), np.bincount(which, minlength=len(keys)), last_at)
