"""Draws loss curves over each other, as SVG or PNG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure


def draw(path: Path, curves: Mapping[str, Sequence[float]], *, title: str) -> None:
    """Draw the training losses of `curves`, by their names, over the share of the rows seen.

    `path` ends with what the picture is to be, `.svg` or `.png`. Peers that pack may take another
    number of steps than others.
    """
    # Text stays text, and the same curves give the same file.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "curves", "font.size": 9}):
        figure = Figure(figsize=(7, 4), layout="constrained")
        axes = figure.subplots()
        for name, losses in curves.items():
            shares = [(step + 1) / len(losses) for step in range(len(losses))]
            axes.plot(shares, losses, marker=".", linewidth=1.2, label=name)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel("share of the rows that was learnt from")
        axes.set_ylabel("training loss, nats per token")
        axes.grid(alpha=0.3)
        axes.legend()
        date = {"Date": None} if path.suffix == ".svg" else {}
        figure.savefig(path, metadata=date)
