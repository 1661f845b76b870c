"""Keys of features: those of SQL, one for a text, none for nothing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from freshet.attributes import BITS, TABLES
from freshet.engine.features import feature_keys, feature_texts, given_context, item_attributes, natural_key
from freshet.errors import SettingsError, UnknownName
from freshet.settings import FeatureSettings, load

MAPS = pa.map_(pa.string(), pa.string())
CONTEXT = pa.chunked_array([
    pa.array([[("device", "phone"), ("page", "ü=1")], None, [("page", "home")]], MAPS),
    pa.array([[("device", "desk"), ("page", "home")], [("device", "phone")]], MAPS),
])
NAMES = FeatureSettings(context=("page", "device"))


def test_keys_are_hashes_of_column_and_value_and_0_where_there_is_none(spark) -> None:
    keys = feature_keys(CONTEXT, NAMES)
    texts = ["page=ü=1", "device=phone", "page=home", "device=desk"]
    rows = spark.createDataFrame([(text,) for text in texts], "text string").selectExpr("text", "xxhash64(text) as key").collect()
    by_spark = {row.text: row.key for row in rows}
    assert {text: natural_key(text) for text in texts} == by_spark
    assert keys.tolist() == [
        [by_spark["page=ü=1"], by_spark["device=phone"]], [0, 0], [by_spark["page=home"], 0],
        [by_spark["page=home"], by_spark["device=desk"]], [0, by_spark["device=phone"]],
    ]
    assert feature_keys(CONTEXT, FeatureSettings()).shape == (5, 0)
    assert feature_keys(pa.chunked_array([pa.nulls(3, MAPS)]), NAMES).tolist() == [[0, 0]] * 3


def test_texts_stand_at_the_places_of_their_keys() -> None:
    rows, columns = np.nonzero(feature_keys(CONTEXT, NAMES))
    texts = feature_texts(CONTEXT, NAMES, rows, columns).to_pylist()
    assert [natural_key(text) for text in texts] == feature_keys(CONTEXT, NAMES)[rows, columns].tolist()
    none = np.empty(0, np.int64)
    assert feature_texts(CONTEXT, NAMES, none, none).to_pylist() == []


def test_a_given_context_has_the_same_keys_and_unknown_columns_are_refused() -> None:
    assert given_context({"device": "phone"}, NAMES).tolist() == [0, natural_key("device=phone")]
    with pytest.raises(UnknownName) as refused:
        given_context({"devise": "phone"}, NAMES)
    assert refused.value.nearest == "device"  # type: ignore[attr-defined]


ITEMS = pa.table({
    "category": ["news|sport", None, "news", ""], "title": ["The  big Game", "the game the", None, "x"],
    "attributes": pa.array([[("tag", "a | b|a")], None, [("other", "z")], [("tag", "b")]], MAPS),
})


def test_values_of_items_are_split_and_counted_once() -> None:
    keys, texts, text_keys = item_attributes(ITEMS, FeatureSettings(items=("category", "tag"), most=4))
    said = dict(zip(text_keys.tolist(), texts.to_pylist(), strict=True)) | {0: ""}
    assert [[said[key] for key in row] for row in keys.tolist()] == [
        ["category=news", "category=sport", "tag=a", "tag=b"], [""] * 4, ["category=news", "", "", ""], ["tag=b", "", "", ""]]
    assert all(natural_key(text) == key for key, text in said.items() if text)


def test_titles_are_their_words_and_what_is_over_is_left_out() -> None:
    keys, texts, text_keys = item_attributes(ITEMS, FeatureSettings(items=("title",), most=2))
    said = dict(zip(text_keys.tolist(), texts.to_pylist(), strict=True)) | {0: ""}
    assert [[said[key] for key in row] for row in keys.tolist()] == [
        ["title=the", "title=big"], ["title=the", "title=game"], ["", ""], ["title=x", ""]]
    empty, none, _ = item_attributes(ITEMS.slice(0, 0), FeatureSettings(items=("title",), most=2))
    assert empty.shape == (0, 2) and len(none) == 0


def test_numbers_lie_in_bins_with_names_and_what_is_no_number_is_its_own() -> None:
    features = FeatureSettings(context=("price",), bins={"price": (0.0, 10.0, 2.5e6)})
    prices = ["-0.5", "0", "9.99", "10", "2.5e6", "1e9", "inf", "many", "NaN", None]
    context = pa.chunked_array([pa.array([[("price", price)] if price else None for price in prices], MAPS)])
    words = ["below 0", "0 to 10", "0 to 10", "10 to 2.5e+06", "from 2.5e+06", "from 2.5e+06", "from 2.5e+06", "many", "NaN"]
    keys = feature_keys(context, features)[:, 0].tolist()
    assert keys == [*(natural_key(f"price={word}") for word in words), 0]
    texts = feature_texts(context, features, np.arange(9), np.zeros(9, np.int64)).to_pylist()
    assert texts == [f"price={word}" for word in words]
    assert given_context({"price": "3"}, features).tolist() == [natural_key("price=0 to 10")]


def test_a_vector_is_its_cell_in_every_table_beside_the_most_of_other_values() -> None:
    texts = ["[1, -2.5, 3e0]", "2,-5,6", "[1, -2.5, 3, 0, 0]", "[-1,2.5,-3]", "[1, 2, x]", "1,,2", "1 2", "[0, 0]", "", "[]", None]
    maps = pa.array([[("image", text)] if text is not None else None for text in texts], MAPS)
    n = len(texts)
    items = pa.table({"category": ["a|b"] * n, "title": pa.nulls(n, pa.string()), "attributes": maps})
    features = FeatureSettings(items=("image", "category"), vectors=("image",), most=1)
    keys, texts, text_keys = item_attributes(items, features)
    said = dict(zip(text_keys.tolist(), texts.to_pylist(), strict=True)) | {0: ""}
    rows = [[said[key] for key in row] for row in keys.tolist()]
    assert {len(row) for row in rows} == {1 + TABLES} and {row[0] for row in rows} == {"category=a"}
    assert rows[0] == rows[1] == rows[2]  # a direction, whatever its length and the zeros after it
    for table, (one, other) in enumerate(zip(rows[0][1:], rows[3][1:], strict=True)):
        assert one.startswith(f"image {table}=") and len(one) == len("image 0=") + BITS
        assert int(one[-BITS:], 2) ^ int(other[-BITS:], 2) == 2**BITS - 1  # the other side of every plane
    assert all(row[1:] == [""] * TABLES for row in rows[4:])
    assert all(natural_key(text) == key for key, text in said.items() if text)
    empty, _, _ = item_attributes(items.slice(0, 0), features)
    assert empty.shape == (0, 1 + TABLES)


@pytest.mark.parametrize(("sets", "said"), [
    (["model.features.vectors=[image]"], "image"),
    (["model.features.items=[image]", "model.features.vectors=[image]", "model.features.bins={image: [1]}"], "image"),
    (["model.features.bins={price: [1, 2]}"], "price"), (["source.context=[a]", "model.features.context=[a]", "model.features.bins={a: [2, 1]}"], "ascending"),
    (["source.context=[a]", "model.features.context=[a]", "model.features.bins={a: []}"], "ascending"),
])
def test_edges_are_ascending_and_bins_and_vectors_are_of_a_feature(sets, said) -> None:
    with pytest.raises(SettingsError, match=said):
        load([], {}, sets)
