"""The page about the tables is the one that schema.py makes."""

from __future__ import annotations

from pathlib import Path

from freshet.schema import TABLES
from freshet.schema_doc import markdown


def test_the_page_about_the_tables_is_current() -> None:
    page = Path(__file__).parents[1] / "docs" / "tables.md"
    assert page.read_text(encoding="utf-8") == markdown()


def test_every_column_says_what_it_is() -> None:
    for table in TABLES.values():
        assert len(set(table.names)) == len(table.names)
        assert all(len(column.comment) > 2 for column in table.columns)
