"""The curves of a job, and of two jobs in one picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nicegui import ui

from tunesmith.dashboard.door import Thing
from tunesmith.dashboard.parts import Tag
from tunesmith.dashboard.words import number

MOST_POINTS = 1200
"""Points that a line in a browser has at the most."""


@dataclass(frozen=True)
class Picture:
    """One set of axes."""

    title: str
    """What is shown."""
    lines: Mapping[str, str]
    """The key of the metrics for each line, by the line's name."""

    def has(self, metrics: Sequence[Thing]) -> bool:
        """Tell whether `metrics` hold any of it."""
        return any(each.get(key) is not None for each in metrics for key in self.lines.values())


PICTURES = (
    Picture("Loss (nats)", {"training": "train_loss", "held out": "valid_loss"}),
    Picture(
        "Accuracy (share of 1)",
        {"training": "train_mean_token_accuracy", "held out": "valid_mean_token_accuracy"},
    ),
    Picture("Reward margin (nats)", {"training": "rewards_margin"}),
    Picture("Mean reciprocal rank", {"training": "mrr", "held out": "valid_mrr"}),
    Picture("Learning rate", {"learning rate": "learning_rate"}),
    Picture("Speed (tokens a second)", {"training": "tokens_per_second"}),
)
"""The pictures of a job; those without any number are left out."""


@dataclass
class Curve:
    """One picture on the page, which can be lengthened."""

    picture: Picture
    """What it shows."""
    _chart: ui.echart = field(init=False)
    _now: Tag = field(init=False)
    _last: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Place it."""
        with Tag("figure"):
            caption = Tag("figcaption", self.picture.title)
            self._chart = ui.echart(_options(tuple(self.picture.lines)))
            self._chart.props["role"] = "img"
            self._chart.props["aria-labelledby"] = caption.html_id
            self._now = Tag("p", classes="hint")

    def draw(self, metrics: Sequence[Thing]) -> None:
        """Show `metrics`, oldest first, before the page is sent."""
        for place, key in enumerate(self.picture.lines.values()):
            self._chart.options["series"][place]["data"] = points(metrics, key)
        self._tell(metrics)

    def lengthen(self, metrics: Sequence[Thing]) -> None:
        """Add what is new to what the browser shows already."""
        new = [
            [place, x, y]
            for place, key in enumerate(self.picture.lines.values())
            for x, y in points(metrics, key)
        ]
        if new:
            ui.run_javascript(
                f"tunesmith.append({self._chart.id}, {json.dumps(new)}, {MOST_POINTS})"
            )
            self._tell(metrics)

    def _tell(self, metrics: Iterable[Thing]) -> None:
        """Say in words where the lines have come to, for those who cannot see them."""
        for each in metrics:
            for name, key in self.picture.lines.items():
                if each.get(key) is not None:
                    self._last[name] = each[key]
        words = ", ".join(f"{number(value)} {name}" for name, value in self._last.items())
        self._now.say(f"Now {words}" if words else "Nothing told yet")


def draw_two(picture: Picture, jobs: Mapping[str, Sequence[Thing]]) -> None:
    """Add a picture of the first line of two jobs, each by its name."""
    key = next(iter(picture.lines.values()))
    with Tag("figure"):
        caption = Tag("figcaption", picture.title)
        options = _options(tuple(jobs))
        for place, metrics in enumerate(jobs.values()):
            options["series"][place] |= {"data": points(metrics, key), "showSymbol": False}
        chart = ui.echart(options)
        chart.props["role"] = "img"
        chart.props["aria-labelledby"] = caption.html_id
        ends = (f"{name}: {_ends(metrics, key)}" for name, metrics in jobs.items())
        Tag("p", "; ".join(ends), classes="hint")


def points(metrics: Iterable[Thing], key: str) -> list[list[float]]:
    """Return the steps of `metrics` at which `key` is known, each with its number."""
    return [[each["step"], each[key]] for each in metrics if each.get(key) is not None]


def _ends(metrics: Sequence[Thing], key: str) -> str:
    known = points(metrics, key)
    return f"from {number(known[0][1])} to {number(known[-1][1])}" if known else "nothing told"


def _options(names: Sequence[str]) -> dict[str, Any]:
    several = len(names) > 1
    return {
        "animation": False,
        "grid": {"left": 56, "right": 14, "top": 30 if several else 12, "bottom": 26},
        "legend": {"show": several, "top": 0, "right": 0, "icon": "roundRect", "itemHeight": 4},
        "tooltip": {"trigger": "axis", "renderMode": "richText"},
        "xAxis": {
            "type": "value",
            "min": "dataMin",
            "max": "dataMax",
            "splitLine": {"show": False},
        },
        "yAxis": {"type": "value", "scale": True, "splitNumber": 4},
        "series": [
            {
                "name": name,
                "type": "line",
                # Of a line with few points, each is shown.
                "showSymbol": place > 0,
                "symbolSize": 5,
                "lineStyle": {"width": 1.6},
                "data": [],
            }
            for place, name in enumerate(names)
        ],
    }
