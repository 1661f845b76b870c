"""The paired curves of challengers and the model as a picture; matplotlib is wanted only here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from freshet.errors import FreshetError


def draw(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the curves as a picture, one panel a challenger. Raises FreshetError where matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise FreshetError("Pictures need matplotlib.", remedy="pip install 'freshet[plot]', or leave --plot out.") from error
    mpl.rcParams.update({"svg.hashsalt": "freshet", "font.size": 9})
    figure = Figure(figsize=(8, 2.6 * len(found)), layout="constrained")
    for axis, one in zip(figure.subplots(len(found), 1, squeeze=False)[:, 0], found, strict=True):
        events = [point["events"] for point in one["curve"]]
        for name, label, colour in (("model", "model", "#888888"), ("mine", one["challenger"], "#1f5f8b")):
            axis.plot(events, [point[name] for point in one["curve"]], label=label, color=colour, marker=".")
        axis.set_title(f"{one['challenger']}: {one['began']}", loc="left")
        axis.set_ylabel(one["metric"])
        axis.set_xlabel("events scored by both")
        axis.grid(alpha=0.3)
        axis.legend(frameon=False)
    try:
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    except (OSError, ValueError) as error:
        raise FreshetError(f"{path} cannot be written: {error}", remedy="Name a file that ends in .svg, .png or .pdf.") from error
