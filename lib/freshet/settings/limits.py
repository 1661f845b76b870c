"""Settings of what one account, or many new ones together, may do to a model."""

from __future__ import annotations

from freshet.settings.fields import Count, Positive, Section


class LimitSettings(Section):
    """Caps of events, and of what an event may move; None: no limit."""

    user_events: Count | None = 1000
    pair_events: Count | None = 60
    user_change: Positive | None = 5000.0
    warm_up: Count | None = None
    young: Count = 10
    burst: Positive | None = 20.0
    burst_events: Count = 30

    @classmethod
    def none(cls) -> LimitSettings:
        """No limits."""
        return cls(user_events=None, pair_events=None, user_change=None, burst=None)
