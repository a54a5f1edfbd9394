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
    """The tools of one example and the calls of them that wait for an answer.

    What depends on something that is broken is not complained of: no call of an
    unknown tool where a definition is, no answer to an unknown call where a call is.
    """

    def __init__(self) -> None:
        """Define no tool yet."""
        self.defined: list[dict[str, object]] = []
        """The tools, in OpenAI's form."""
        self._names: set[str] = set()
        self._all_defined = True
        self._open: dict[str, str] = {}
        self._all_called = True
        self._made = 0

    def define(self, row: Object, key: str, *, value: object) -> None:
        """Define the tools in `value`, which came from `key`: an array, perhaps an empty one."""
        before = len(row.faults)
        if row.writable(key, value):
            for at, item in enumerate(row.listed(key, value)):
                tool = row.inside(f"{key}/{at}", item)
                if tool is not None:
                    self._add(tool, bare=key == "functions")
        self._all_defined = len(row.faults) == before

    def fork(self) -> Tools:
        """Return the tools with no call open, for one of several answers to one prompt."""
        fork = Tools()
        fork._names, fork._all_defined = self._names, self._all_defined
        fork._made = self._made
        return fork

    def doubt(self) -> None:
        """Know that a call could not be read, so that any answer may be to it."""
        self._all_called = False

    def call(self, fields: Object, *, id: str = "") -> ToolCall:
        """Return the call in `fields`, `{"name", "arguments"}`, and count it as open.

        An `id` is made where none is given. Arguments may be an object, or a text of one.
        """
        name = fields.text("name")
        if name and name not in self._names and self._all_defined:
            message = f"the tool {name[:40]!a} is not defined. Define it, or mend the name."
            fields.fault(Rule.UNDEFINED_TOOL, message, key="name")
        arguments = _arguments(fields)
        if id in self._open:
            message = f"the call {id[:40]!a} is open already. Give each call an id of its own."
            fields.fault(Rule.WRONG_VALUE, message)
        self._made += 1
        # Some templates take ids of nine letters and digits alone.
        call = ToolCall(id or f"call{self._made:05d}", name, arguments)
        self._open[call.id] = name
        return call

    def answer(self, message: Object, *, id: str) -> str:
        """Close the call `id`, which `message` answers, and return its tool's name."""
        if id and id not in self._open and self._all_called:
            fault = f"no call {id[:40]!a} waits for an answer. Mend the id, or add the call."
            message.fault(Rule.NO_OPEN_CALL, fault, key="tool_call_id")
        return self._open.pop(id, "")

    def answer_next(self, message: Object, *, key: str, name: str = "") -> tuple[str, str]:
        """Close the oldest open call (of the tool `name`, if any); return its id and tool."""
        for id, tool in self._open.items():
            if name in ("", tool):
                del self._open[id]
                return id, tool
        if self._all_called:
            of = name and f" of {name[:40]!a}"
            fault = f"no call{of} waits for an answer. Add it before this."
            message.fault(Rule.NO_OPEN_CALL, fault, key=key)
        return "", ""

    def _add(self, tool: Object, *, bare: bool) -> None:
        function: Object | None = tool
        if not bare and ("function" in tool.fields or "name" not in tool.fields):
            type = tool.string("type")
            if type and type != "function":
                message = f"tools of type {type[:40]!a} are unknown. Use 'function'."
                tool.fault(Rule.WRONG_VALUE, message, key="type")
                return
            function = tool.member("function")
        if function is None:
            return
        name = function.text("name")
        if name in self._names:
            message = f"the tool {name[:40]!a} is defined twice. Remove one."
            function.fault(Rule.WRONG_VALUE, message, key="name")
        if function.has("description"):
            function.string("description")
        if function.has("parameters"):
            function.member("parameters")
        self._names.add(name)
        self.defined.append({"type": "function", "function": function.fields})


def _arguments(fields: Object) -> dict[str, object] | str:
    before = len(fields.faults)
    given = fields.given("arguments")
    if not isinstance(given, dict | str):
        if len(fields.faults) == before:
            message = f"'arguments' must be a string or an object, not {kind(given)}."
            fields.fault(Rule.WRONG_TYPE, message, key="arguments")
        return ""
    found = _object_in(given) if isinstance(given, str) else given
    arguments = given if found is None else found
    fields.writable("arguments", arguments)
    return arguments


def _object_in(text: str) -> dict[str, object] | None:
    try:
        found = decoded(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
