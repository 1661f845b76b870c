"""The rules of lists, from the settings to arrays over the items of a head."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from freshet.errors import SettingsError
from freshet.head import Head
from freshet.kernels.seeds import combine
from freshet.lists import Rules
from freshet.models.contract import Model
from freshet.pipelines.assembly import MICROSECONDS
from freshet.pipelines.learned_events import new_items
from freshet.pipelines.opening import Reading
from freshet.schema import ITEMS, POPULARITY
from freshet.settings import ListSettings, Settings
from freshet.store.files import all_rows


def list_rules(reading: Reading, settings: Settings, model: Model, head: Head, ids: pa.Array) -> Rules:
    """The rules of the settings for the items of the head, whose natural ids are `ids`.

    Raises SettingsError for diversity with a model whose items have no vectors, and for rules by category where no item has
    one.
    """
    chosen = settings.lists
    if chosen.diversity and not model.factors:
        raise SettingsError(
            f"lists.diversity is {chosen.diversity:g}, and items of {model.name} have no vectors to be alike in.",
            remedy="Set it to 0 and spread lists by lists.category_cap, or take a model with vectors, such as blend.",
            problems=("lists.diversity",),
        )
    categories = _categories(reading, ids) if chosen.by_category else pa.nulls(len(ids), pa.string())
    seed = int(combine(np.uint64(settings.model.seed), np.uint64(reading.version)))
    codes = categories.dictionary_encode().indices.fill_null(-1).to_numpy().astype(np.int32)
    return Rules(
        _added(reading, chosen, head, ids, categories), codes, chosen.category_cap, chosen.diversity, chosen.exploration,
        chosen.candidates, seed)


def _added(reading: Reading, chosen: ListSettings, head: Head, ids: pa.Array, categories: pa.Array) -> np.ndarray:
    """float32[n]: boosts, not a number for what is never listed."""
    added = _boosts(ids, chosen.boost_items) + _boosts(categories, chosen.boost_categories)
    never = _among(ids, chosen.block_items) | _among(categories, chosen.block_categories)
    table = head.tables[POPULARITY]
    if chosen.max_idle is not None:
        idle = table.column("last_at") < head.clock - round(chosen.max_idle * MICROSECONDS)
        never |= idle & (table.column("count") > 0)  # what is known by its attributes alone has yet to begin
    if chosen.max_age is not None:
        since = head.clock - round(chosen.max_age * MICROSECONDS)
        young = new_items(reading.tables, reading.history, reading.version, since)
        never |= ~np.isin(table.keys, young)
    return np.where(never, np.nan, added).astype(np.float32)


def _boosts(texts: pa.Array, boosts: Mapping[str, float]) -> np.ndarray:
    place = pc.index_in(texts, value_set=pa.array(list(boosts), pa.string())).fill_null(-1).to_numpy()
    return np.array([*boosts.values(), 0.0])[place]


def _among(texts: pa.Array, names: tuple[str, ...]) -> np.ndarray:
    found: np.ndarray = pc.is_in(texts, value_set=pa.array(names, pa.string())).to_numpy(zero_copy_only=False)
    return found


def _categories(reading: Reading, ids: pa.Array) -> pa.Array:
    """The category of each item, null where it has none; of several rows of an item the first category by name."""
    rows = all_rows(reading.tables, ITEMS.name, ("item_id", "category"), ("category", "is", False))
    table = rows.group_by("item_id").aggregate([("category", "min")]).rename_columns(["item_id", "category"]).combine_chunks()
    if not table.num_rows:
        raise SettingsError(
            f"Settings of `lists` name categories, and no item of the model under {reading.tables.root} has one.",
            remedy="Write item_id and category into the table `items` first.", problems=("lists",),
        )
    place = pc.index_in(ids, value_set=table.column("item_id").combine_chunks())
    return table.column("category").combine_chunks().take(place)
