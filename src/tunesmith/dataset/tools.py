"""Tools in training examples: their definitions, their calls, and which calls are open.

The form is OpenAI's, `{"type": "function", "function": {"name", "description",
"parameters"}}`; a bare function, as in OpenAI's deprecated `functions` and in
ShareGPT's `tools`, is put into it.
"""

from __future__ import annotations

from tunesmith.dataset.examples import ToolCall
from tunesmith.dataset.objects import Object, decoded, kind
from tunesmith.dataset.problems import Rule


class Tools:
    """The tools of one example and the calls of them that wait for an answer."""

    def __init__(self) -> None:
        """Define no tool yet."""
        self.defined: list[dict[str, object]] = []
        """The tools, in OpenAI's form."""
        self._names: set[str] = set()
        self._open: dict[str, str] = {}
        self._made = 0

    def define(self, row: Object, key: str, *, value: object) -> None:
        """Define the tools in `value`, which came from `key`: an array, perhaps an empty one."""
        row.writable(key, value)
        for at, item in enumerate(row.array(key, value) if value != [] else []):
            tool = Object(item, row.at(f"{key}/{at}"))
            function, definition = tool, tool.fields
            if key == "tools" and ("function" in tool.fields or "name" not in tool.fields):
                _refuse_other_type(tool)
                function = Object(tool.required("function"), tool.at("function"))
                definition = function.fields
            self._add(function)
            self.defined.append({"type": "function", "function": definition})

    def call(self, fields: Object, *, id: str = "") -> ToolCall:
        """Return the call in `fields`, `{"name", "arguments"}`, and count it as open.

        An `id` is made where none is given. Arguments may be an object, or a text of one.
        """
        name = fields.text("name")
        if name not in self._names:
            message = f"the tool {name[:40]!a} is not defined. Define it, or mend the name."
            raise fields.refused(Rule.UNDEFINED_TOOL, message, key="name")
        given = fields.required("arguments")
        arguments = _arguments(fields, given)
        fields.writable("arguments", arguments)
        if id in self._open:
            message = f"the call {id[:40]!a} is open already. Give each call an id of its own."
            raise fields.refused(Rule.WRONG_VALUE, message)
        self._made += 1
        # Some templates take ids of nine letters and digits alone.
        call = ToolCall(id or f"call{self._made:05d}", name, arguments)
        self._open[call.id] = name
        return call

    def answer(self, message: Object, *, id: str) -> str:
        """Close the call `id`, which `message` answers, and return its tool's name."""
        if id not in self._open:
            fault = f"no call {id[:40]!a} waits for an answer. Mend the id, or add the call."
            raise message.refused(Rule.NO_OPEN_CALL, fault, key="tool_call_id")
        return self._open.pop(id)

    def answer_next(self, message: Object, *, key: str, name: str = "") -> tuple[str, str]:
        """Close the oldest open call (of the tool `name`, if any); return its id and tool."""
        for id, tool in self._open.items():
            if name in ("", tool):
                del self._open[id]
                return id, tool
        fault = f"no call{name and f' of {name[:40]!a}'} waits for an answer. Add it before this."
        raise message.refused(Rule.NO_OPEN_CALL, fault, key=key)

    def _add(self, function: Object) -> None:
        name = function.text("name")
        if name in self._names:
            message = f"the tool {name[:40]!a} is defined twice. Remove one."
            raise function.refused(Rule.WRONG_VALUE, message, key="name")
        if function.fields.get("description") is not None:
            function.string("description")
        if function.fields.get("parameters") is not None:
            Object(function.fields["parameters"], function.at("parameters"))
        self._names.add(name)


def _refuse_other_type(tool: Object) -> None:
    type = tool.string("type")
    if type != "function":
        message = f"tools of type {type[:40]!a} are unknown. Use 'function'."
        raise tool.refused(Rule.WRONG_VALUE, message, key="type")


def _arguments(fields: Object, given: object) -> dict[str, object] | str:
    if isinstance(given, dict):
        return given
    if not isinstance(given, str):
        message = f"'arguments' must be a string or an object, not {kind(given)}."
        raise fields.refused(Rule.WRONG_TYPE, message, key="arguments")
    try:
        found = decoded(given)
    except ValueError:
        return given
    return found if isinstance(found, dict) else given
