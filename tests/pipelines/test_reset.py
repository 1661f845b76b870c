"""A model is removed whole, and only when it is said twice and nobody holds it."""

from __future__ import annotations

from pathlib import Path

import pytest

from freshet.errors import AlreadyRunning, FreshetError
from freshet.pipelines.reset import reset

pytestmark = pytest.mark.spark


def test_reset_removes_tables_and_checkpoint_and_nothing_else(site) -> None:
    from freshet.store.lock import model_lock

    site.write(200, 200)
    site.train()
    root = site.folder / "model"
    (root / "notes.txt").write_text("mine")
    asked = reset(site.spark, site.settings())
    assert asked["removed"] is False
    assert (root / "snapshots").is_dir()
    with model_lock(site.settings().store.root), pytest.raises(AlreadyRunning):
        reset(site.spark, site.settings(), yes=True)
    done = reset(site.spark, site.settings(), yes=True)
    assert done["removed"] is True
    assert not any(Path(folder).exists() for folder in asked["folders"])
    assert (root / "notes.txt").read_text() == "mine"
    assert list(site.source.glob("*.json"))
    with pytest.raises(FreshetError):
        reset(site.spark, site.settings())
    [report] = site.train()
    assert report.accepted == 200
