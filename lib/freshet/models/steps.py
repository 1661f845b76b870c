"""From the settings to the optimizer steps of a model, one for its factors and one for its biases, and the blocks they move."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from freshet.kernels.optimizers import OPTIMIZERS, SCHEDULES, Group, Step, plain, slots_of
from freshet.models.contract import Block
from freshet.registry import pick
from freshet.settings import ModelSettings


@dataclass(frozen=True)
class Defaults:
    """Learning rates a model recommends with one optimizer, and the decay of its accumulators."""

    rate: float
    bias_rate: float
    decay: float = 0.99


def steps(settings: ModelSettings, own: str, defaults: Mapping[str, Defaults]) -> tuple[Step, Step]:
    """(step of the factors, step of the biases); `own` is the optimizer the model takes for `auto`."""
    chosen = settings.optimizer
    name = own if chosen.name == "auto" else chosen.name
    code = pick("optimizer", name, OPTIMIZERS)
    rate = defaults[name].rate if chosen.learning_rate is None else chosen.learning_rate
    bias_rate = defaults[name].bias_rate if chosen.bias_rate is None else chosen.bias_rate
    rate, bias_rate = rate * chosen.rate_factor, bias_rate * chosen.rate_factor
    decay = defaults[name].decay if chosen.decay is None else chosen.decay
    coordinates = int(chosen.accumulator == "coordinate")
    step = Step(
        code, rate, decay, chosen.epsilon, coordinates, settings.l2, chosen.momentum, settings.l1,
        pick("schedule", chosen.schedule, SCHEDULES), chosen.schedule_events,
    )
    # A bias is a group of one coordinate: both kinds of accumulator are the same for it.
    return plain(step), plain(step._replace(rate=bias_rate, coordinates=0, l2=settings.bias_l2, l1=0.0))


def moved(name: str, ids: str | None, parts: Sequence[tuple[int, Step]], merge: str, init_scale: float, zeros: int = 0) -> Block:
    """A block of rows [x of part 1, x of part 2, .. | slots of part 1, slots of part 2, ..], a part being (width, step)."""
    width = sum(part for part, _ in parts)
    groups, start, slot = [], 0, width
    for part, step in parts:
        groups.append(Group(start, part, slot, step))
        start, slot = start + part, slot + slots_of(step, part)
    return Block(name, ids, width, slot - width, merge=merge, init_scale=init_scale, zeros=zeros, groups=tuple(groups))
