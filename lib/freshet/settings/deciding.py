"""Settings of what is published."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from freshet.settings.fields import Count, NotNegative, Positive, Section

Confidence = Annotated[float, Field(ge=0.5, lt=1)]


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
    on_worse: Literal["hold", "rollback"] = "hold"
