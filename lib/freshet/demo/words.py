"""Invented titles and categories: an adjective, a noun and, once those are used up, a number.

    titles(3, seed=1)  ->  three different titles, the same for the same seed
"""

from __future__ import annotations

import numpy as np

CATEGORIES = (
    "garden", "kitchen", "harbour", "mountain", "workshop", "library",
    "orchard", "railway", "theatre", "observatory", "bakery", "meadow",
)

_ADJECTIVES = (
    "amber", "brisk", "calm", "copper", "crisp", "dapper", "early", "faint", "gentle", "golden", "hidden", "hollow",
    "humble", "idle", "jolly", "keen", "late", "little", "lively", "long", "mellow", "misty", "mossy", "nimble",
    "northern", "olive", "pale", "patient", "plain", "quiet", "rosy", "rustic", "salty", "silver", "sleepy", "slow",
    "solar", "spare", "still", "sunny", "tidal", "tiny", "velvet", "warm", "wandering", "western", "wild", "winter",
)

_NOUNS = (
    "almanac", "anchor", "apron", "basket", "beacon", "bell", "bench", "bramble", "bridge", "brook", "candle", "canoe",
    "clover", "compass", "cradle", "drum", "ember", "fern", "ferry", "fiddle", "gate", "harvest", "hinge", "island",
    "kettle", "kite", "ladder", "lantern", "loom", "map", "mill", "mitten", "oar", "pebble", "pier", "pocket",
    "quill", "ribbon", "saddle", "sail", "spindle", "spoon", "thimble", "tinder", "trellis", "tunnel", "wagon", "well",
)


def titles(count: int, seed: int) -> list[str]:
    """`count` different titles: the pairs of both lists in seeded order, then the same pairs with a number."""
    pairs = len(_ADJECTIVES) * len(_NOUNS)
    order = np.random.default_rng((seed, 0x71)).permutation(pairs)
    numbers, places = np.divmod(np.arange(count), pairs)
    adjectives, nouns = np.divmod(order[places], len(_NOUNS))
    names = np.array(_ADJECTIVES)[adjectives].tolist(), np.array(_NOUNS)[nouns].tolist(), numbers.tolist()
    return [f"{a.capitalize()} {n}{f' {no + 1}' if no else ''}" for a, n, no in zip(*names, strict=True)]
