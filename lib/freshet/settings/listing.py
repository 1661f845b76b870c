"""Settings of the lists that are made: what they keep to beside the score."""

from __future__ import annotations

from collections.abc import Mapping

from freshet.settings.fields import Count, DurationOrNever, Section, Share, Texts


class ListSettings(Section):
    """Diversity, caps, boosts, what is never listed, and the share of chance; nothing is learned of them."""

    diversity: Share = 0.0
    category_cap: Count | None = None
    candidates: Count = 100
    boost_items: Mapping[str, float] = {}
    boost_categories: Mapping[str, float] = {}
    block_items: Texts = ()
    block_categories: Texts = ()
    max_age: DurationOrNever = None
    max_idle: DurationOrNever = None
    exploration: Share = 0.0

    @property
    def by_category(self) -> bool:
        """Whether the categories of items matter."""
        return self.category_cap is not None or bool(self.boost_categories or self.block_categories)
