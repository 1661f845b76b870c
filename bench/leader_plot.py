"""Which mix led when, as a picture: a line for every mix that ever led, drawn while it did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

Led = Sequence[tuple[int, int, str]]  # (events before the micro-batch, events after it, the mix)
MOST = 12  # mixes of a panel; those that led for less are one line
OTHERS = "others"
PATH = Path(__file__).parents[1] / "docs" / "leader.svg"


def merged(led: Led, most: int = MOST) -> list[tuple[str, list[tuple[int, int]]]]:
    """(mix, stretches of events it led for), in the order of first lead, neighbouring micro-batches joined."""
    share: dict[str, int] = {}
    for begin, end, mix in led:
        share[mix] = share.get(mix, 0) + end - begin
    kept = set(sorted(share, key=lambda mix: (-share[mix], mix))[: most if len(share) <= most else most - 1])
    lines: dict[str, list[tuple[int, int]]] = {}
    for begin, end, mix in led:
        own = lines.setdefault(mix if mix in kept else OTHERS, [])
        if own and own[-1][1] == begin:
            own[-1] = (own[-1][0], end)
        else:
            own.append((begin, end))
    return list(lines.items())


def draw(panels: Mapping[str, Led], path: Path = PATH) -> bool:
    """Write the picture; False where matplotlib is not installed."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        return False
    mpl.rcParams.update({"svg.hashsalt": "freshet", "svg.fonttype": "path", "font.size": 8})
    rows = {title: merged(led) for title, led in panels.items()}
    heights = [1 + len(lines) for lines in rows.values()]
    figure = Figure(figsize=(9, 0.6 + 0.26 * sum(heights)), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, lines) in zip(axes, rows.items(), strict=True):
        for number, (_, stretches) in enumerate(lines):
            axis.hlines([number] * len(stretches), *zip(*stretches, strict=True), linewidth=5, color="#1f5f8b")
        axis.set_yticks(range(len(lines)), [mix for mix, _ in lines])
        axis.set_ylim(len(lines) - 0.5, -0.5)
        axis.set_title(title, loc="left")
        axis.grid(axis="x", alpha=0.3)
        axis.xaxis.set_major_formatter(lambda events, _: f"{events:,.0f}")
    axes[-1].set_xlabel("events learned")
    figure.savefig(path, metadata={"Date": None})
    return True
