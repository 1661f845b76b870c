"""Removing a model: its tables and its checkpoint, and nothing else."""

from __future__ import annotations

import shutil
from typing import Any

from pyspark.sql import SparkSession

from freshet.errors import FreshetError
from freshet.pipelines.candidates import FOLDER
from freshet.pipelines.opening import open_reading
from freshet.roots import local_folder
from freshet.schema import TABLES
from freshet.settings import Settings
from freshet.store.lock import model_lock


def reset(spark: SparkSession, settings: Settings, *, yes: bool = False) -> dict[str, Any]:
    """Remove the model under store.root with its checkpoint; without `yes` only say what would go.

    Only folders that are tables of a model are touched, and only while no learner holds it (AlreadyRunning).
    """
    reading = open_reading(spark, settings)
    root = local_folder(settings.store.root)
    if root is None:
        raise FreshetError(
            f"{settings.store.root} is not on this machine's disk.", remedy="Remove it with the tools of its storage.",
            root=settings.store.root,
        )
    folders = [root / name for name in (*TABLES, FOLDER) if (root / name).is_dir()]
    checkpoint = local_folder(settings.store.checkpoint_path)
    if checkpoint is not None and (checkpoint / "metadata").is_file():
        folders.append(checkpoint)
    found = {"root": str(root), "newest_version": reading.version, "folders": [str(folder) for folder in folders]}
    if not yes:
        return {**found, "removed": False, "next": "add --yes to remove it for good"}
    with model_lock(settings.store.root, settings.store.checkpoint_path):
        for folder in folders:
            shutil.rmtree(folder)
    return {**found, "removed": True}
