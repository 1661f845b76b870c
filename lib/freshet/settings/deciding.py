"""Settings of what is published, and of what is done when the stream changes."""

from __future__ import annotations

import re
from typing import Annotated, Literal, NamedTuple, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from freshet.settings.fields import Count, DurationOrNever, NotNegative, Positive, Section, Texts, as_tuple, related

Confidence = Annotated[float, Field(ge=0.5, lt=1)]


class GuardMargins(Section):
    """What may not be lost while the head gets better, each by its own margin; None: it is not measured."""

    coverage: NotNegative | None = None
    new_users: NotNegative | None = None

    @property
    def any(self) -> bool:
        """Whether anything is measured."""
        return self.coverage is not None or self.new_users is not None


class GateSettings(Section):
    """Which version lists are made from, and what a newer one must show to take its place."""

    publish: Literal["head", "judged", "manual"] = "head"
    sample: Count = 128
    min_events: Count = 1000
    min_batches: Annotated[int, Field(ge=2)] = 8
    margin: NotNegative = 0.02
    slice_margin: NotNegative = 0.1
    confidence: Confidence = 0.95
    max_norm_growth: Positive = 4.0
    guards: GuardMargins = GuardMargins()
    on_worse: Literal["hold", "rollback"] = "hold"
    cool_down: Count = 200
    forced_for: Count | None = None


RATES, FREEZE, FORGET = "learning rate", "freeze", "forget"  # kinds of change
_NUMBER, _WHILE = r"(\d+\.?\d*|\.\d+)", r"for (\d+) micro-batches"
_CHANGES = {
    RATES: re.compile(f"learning rate {_NUMBER} {_WHILE}"), FREEZE: re.compile(f"freeze (){_WHILE}"),
    FORGET: re.compile(f"forget {_NUMBER} times faster {_WHILE}"),
}
_WANTED = (
    'some of "go on", "alert", "retrain", "roll back" and one such as "learning rate 3 for 20 micro-batches", '
    '"freeze for 20 micro-batches" or "forget 4 times faster for 20 micro-batches"'
)


class Change(NamedTuple):
    """How learning is another one for so many micro-batches: both learning rates times `factor`, nothing is learned (factor 0),
    or half-lives are divided by `factor`."""

    factor: float
    batches: int
    kind: str = RATES


def change(action: str) -> Change | None:
    """What an action changes in learning: `learning rate 3 for 20 micro-batches` -> (3.0, 20, "learning rate"); None for one that
    changes nothing."""
    for kind, wanted in _CHANGES.items():
        match = wanted.fullmatch(action)
        if match is not None:
            found = Change(float(match[1] or 0), int(match[2]), kind)
            least = {RATES: 0.0, FREEZE: -1.0, FORGET: 1.0}[kind]
            return found if found.factor > least and found.batches > 0 else None
    return None


def _known(actions: tuple[str, ...]) -> tuple[str, ...]:
    changes = [action for action in actions if change(action) is not None]
    if set(actions) - {"go on", "alert", "retrain", "roll back", *changes} or len(changes) > 1:
        raise PydanticCustomError("actions", "{wanted}", {"wanted": _WANTED})
    return actions


Actions = Annotated[tuple[str, ...], BeforeValidator(as_tuple), AfterValidator(_known)]
SEEN = ("drift", "falling_metric", "new_users", "new_items", "refusals", "divergence", "inputs", "lag")


class StrategySettings(Section):
    """What is watched for, and what is done when it is seen."""

    detectors: Annotated[tuple[Literal["adwin", "page_hinkley", "psi"], ...], BeforeValidator(as_tuple)] = ()
    events: Count = 100
    settle: Annotated[int, Field(ge=10)] = 30
    drift: Actions = ("go on",)
    falling_metric: Actions = ("go on",)
    new_users: Actions = ("go on",)
    new_items: Actions = ("go on",)
    refusals: Actions = ("go on",)
    divergence: Actions = ("go on",)
    inputs: Actions = ("go on",)
    psi: Positive = 0.25
    lag: Actions = ("go on",)
    max_lag: DurationOrNever = None
    cool_down: Count = 50
    command: Texts = ()

    @property
    def watches(self) -> bool:
        """Whether anything is watched for."""
        return bool(self.detectors) or self.max_lag is not None

    def naming(self, action: str) -> list[str]:
        """What is answered with this action, or with any change of this kind."""
        def kind(one: str) -> str:
            found = change(one)
            return one if found is None else found.kind

        return [name for name in SEEN if any(action == kind(one) for one in getattr(self, name))]

    @model_validator(mode="after")
    def _command(self) -> Self:
        alerts = self.naming("alert")
        if alerts and not self.command:
            raise related("a command for alert to run, as a list of words", "command", *alerts)
        return self
