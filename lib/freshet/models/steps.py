"""From the settings to the optimizer steps of a model: one for its factors, one for its biases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from freshet.kernels.optimizers import OPTIMIZERS, Step
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
    decay = defaults[name].decay if chosen.decay is None else chosen.decay
    coordinates = int(chosen.accumulator == "coordinate")
    step = Step(code, rate, decay, chosen.epsilon, coordinates, settings.l2)
    # A bias is a group of one coordinate: both kinds of accumulator are the same for it.
    return step, Step(code, bias_rate, decay, chosen.epsilon, 0, settings.bias_l2)
