"""The pieces that pages are made of: plain HTML elements, whose texts are never markup."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from inspect import isawaitable
from typing import Any

from nicegui import ui
from nicegui.elements.mixins.text_element import TextElement
from nicegui.events import GenericEventArguments

from tunesmith.dashboard.door import RefusedError
from tunesmith.dashboard.words import STATUSES

Acting = Callable[[], Awaitable[None] | None]
"""What a button does."""
Hearing = Callable[[Any], Awaitable[None] | None]
"""What happens with a value that was given."""


class Tag(TextElement):
    """An HTML element with a text."""

    def __init__(self, name: str, text: object = "", *, classes: str = "", **given: object) -> None:
        """Make a `name` element; `given` are its attributes, an underscore for each hyphen."""
        super().__init__(tag=name, text=str(text))
        if classes:
            self.classes(classes)
        self.give(**given)

    def give(self, **given: Any) -> Tag:
        """Set attributes; `None` takes one away."""
        for name, value in given.items():
            key = name.rstrip("_").replace("_", "-")
            if value is None:
                self._props.pop(key, None)
            else:
                self._props[key] = value
        self.update()
        return self

    def say(self, text: object) -> None:
        """Show `text` from now on."""
        if self.text != str(text):
            self.set_text(str(text))


def guarded(act: Acting) -> Callable[[], Awaitable[None]]:
    """Return `act`, whose refusal by the API is told on the page."""

    @wraps(act)
    async def acting() -> None:
        try:
            result = act()
            if isawaitable(result):
                await result
        except RefusedError as refused:
            complain(refused.message)

    return acting


def complain(message: str) -> None:
    """Tell the visitor, in words that a screen reader speaks at once, what went wrong."""
    ui.notify(message, type="negative", multi_line=True, timeout=8000, close_button="Close")


def tell(message: str) -> None:
    """Tell the visitor that something was done."""
    ui.notify(message, type="positive", timeout=4000)


def button(text: str, act: Acting, *, kind: str = "plain", **given: Any) -> Tag:
    """Add a button; `kind` is `plain`, `main` or `danger`."""
    made = Tag("button", text, classes=f"button {kind}", type="button", **given)
    made.on("click", guarded(act), args=[])
    return made


def link(text: str, to: str, *, classes: str = "", **given: Any) -> Tag:
    """Add a link to a path of the page."""
    return Tag("a", text, classes=classes, href=to, **given)


def heading(text: object, level: int = 2) -> Tag:
    """Add a heading."""
    return Tag(f"h{level}", text)


def note(text: object, *, kind: str = "muted") -> Tag:
    """Add a paragraph; `kind` is `muted`, `warn`, `bad` or `good`."""
    return Tag("p", text, classes=f"note {kind}")


def badge(status: str) -> Tag:
    """Add a job's status."""
    return Tag("span", STATUSES.get(status, status), classes=f"badge is-{status}")


def show_badge(made: Tag, status: str) -> None:
    """Let a badge show `status` from now on."""
    made.say(STATUSES.get(status, status))
    made.classes(replace=f"badge is-{status}")


@contextmanager
def panel(title: str, *, level: int = 2, classes: str = "") -> Iterator[Tag]:
    """Add a titled section."""
    with Tag("section", classes=f"panel {classes}".strip()) as section:
        made = heading(title, level)
        section.give(aria_labelledby=made.html_id)
        yield section


@contextmanager
def table(caption: str, columns: Sequence[str], *, classes: str = "") -> Iterator[Tag]:
    """Add a table, and go on with its rows; on a phone's width each row is a block."""
    with (
        Tag("div", classes=f"scroll {classes}", role="region", aria_label=caption, tabindex="0"),
        Tag("table", classes="table"),
    ):
        Tag("caption", caption, classes="unseen")
        with Tag("thead"), Tag("tr"):
            for column in columns:
                Tag("th", column, scope="col")
        with Tag("tbody") as body:
            yield body


def cell(label: str, text: object = "", *, classes: str = "") -> Tag:
    """Add a cell under the column `label`."""
    return Tag("td", text, classes=classes, data_label=label)


def facts(pairs: Mapping[str, object]) -> None:
    """Add names with what they stand for."""
    with Tag("dl", classes="facts"):
        for name, value in pairs.items():
            with Tag("div"):
                Tag("dt", name)
                Tag("dd", value)


def field(
    label: str,
    hear: Hearing,
    *,
    value: object = "",
    explained: str = "",
    kind: str = "text",
    **given: Any,
) -> Tag:
    """Add a labelled input; `hear` is told what is typed. `given` are its attributes."""
    with Tag("div", classes="field"):
        named = Tag("label", label)
        lines: dict[str, Any] = {"rows": "3"} if kind == "textarea" else {"type": kind}
        if value != "":
            # As an attribute, which is only a beginning; what is typed stays when the page changes.
            lines["^value"] = value
        made = Tag(
            "textarea" if kind == "textarea" else "input", autocomplete="off", **lines, **given
        )
        _explain(named, made, explained=explained)
    _listen(made, "input", hear=hear)
    return made


def choice(
    label: str,
    options: Mapping[str, str],
    *,
    hear: Hearing,
    value: str = "",
    explained: str = "",
) -> Tag:
    """Add a labelled choice of `options`, each value with its words."""
    with Tag("div", classes="field"):
        named = Tag("label", label)
        with Tag("select") as made:
            for each, words in options.items():
                Tag("option", words, value=each, selected=True if each == value else None)
        _explain(named, made, explained=explained)
    _listen(made, "change", hear=hear)
    return made


def _explain(named: Tag, made: Tag, *, explained: str) -> None:
    named.give(for_=made.html_id)
    if explained:
        made.give(aria_describedby=Tag("p", explained, classes="hint").html_id)


def _listen(made: Tag, event: str, *, hear: Hearing) -> None:
    def heard(told: GenericEventArguments) -> Awaitable[None]:
        return guarded(lambda: hear(told.args))()

    made.on(event, heard, js_handler="(event) => emit(event.target.value)")


def stop_with(task: Any) -> None:
    """Cancel `task` once the visitor has left the page."""
    ui.context.client.on_delete(task.cancel)
