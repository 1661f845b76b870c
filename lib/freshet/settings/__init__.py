"""Settings: one frozen, typed model, made once at the border from files, environment and flags."""

from __future__ import annotations

from freshet.settings.challenging import ChallengerSettings
from freshet.settings.deciding import FORGET, FREEZE, RATES, SEEN, Change, GateSettings, GuardMargins, StrategySettings, change
from freshet.settings.giving import Flag, default_text
from freshet.settings.kafka import KafkaSink
from freshet.settings.layers import OWN, Origins, load, over
from freshet.settings.learning import (
    FeatureSettings,
    GuardSettings,
    HistorySettings,
    LabelSettings,
    MetricsSettings,
    ModelSettings,
    OptimizerSettings,
    PopularitySettings,
    WindowSettings,
)
from freshet.settings.listing import ListSettings
from freshet.settings.model import Settings
from freshet.settings.problems import Problem
from freshet.settings.reachable import check_source
from freshet.settings.reading import CleanSettings, ColumnSettings, CsvSettings, SourceSettings
from freshet.settings.retraining import RetrainSettings
from freshet.settings.running import DemoSettings, SparkSettings, StoreSettings, StreamSettings
from freshet.settings.show import lines

__all__ = [
    "FORGET", "FREEZE", "OWN", "RATES", "SEEN", "ChallengerSettings", "Change", "CleanSettings", "ColumnSettings",
    "CsvSettings", "DemoSettings", "FeatureSettings", "Flag", "GateSettings", "GuardMargins", "GuardSettings",
    "HistorySettings", "KafkaSink", "LabelSettings", "ListSettings", "MetricsSettings", "ModelSettings",
    "OptimizerSettings", "Origins", "PopularitySettings", "Problem", "RetrainSettings", "Settings", "SourceSettings",
    "SparkSettings", "StoreSettings", "StrategySettings", "StreamSettings", "WindowSettings", "change", "check_source",
    "default_text", "lines", "load", "over",
]
