"""Settings as a snapshot row records them."""

from __future__ import annotations

import json

from freshet.settings import Settings, load


def test_what_is_recorded_comes_back() -> None:
    settings, _ = load([], {}, ["model.factors=5", "source.values={view: 1}", "source.path=x"])
    assert Settings.from_json(settings.to_json()) == settings


def test_rounds_of_a_time_without_a_share_have_none() -> None:
    settings, _ = load([], {}, ["source.path=x"])
    recorded = json.loads(settings.to_json())
    assert recorded["model"].pop("round_share") == 0.1
    assert Settings.from_json(json.dumps(recorded)).model.round_share is None
