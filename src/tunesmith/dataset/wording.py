"""The words of an example: what a model is shown of it, as one text to compare and to search."""

from __future__ import annotations

import json

from tunesmith.dataset.examples import AnyExample, Example, Message, Pair, Ranking, Reasoning, Text


def wording(example: AnyExample) -> str:
    """Return all that `example` says, with who says it; other keys of its row are left out.

    Two examples have one wording where a model would be shown the same.
    """
    match example:
        case Example(messages=messages, tools=tools):
            return _turns(messages) + _definitions(tools)
        case Pair(prompt=prompt, chosen=chosen, rejected=rejected, tools=tools):
            return _turns((*prompt, chosen, rejected)) + _definitions(tools)
        case Text(text=text):
            return text
        case Reasoning(question=question, thought=thought, answer=answer):
            return "\n".join((question, thought, answer))
        case Ranking(query=query, positives=positives, negatives=negatives, prompt=prompt):
            return "\n".join((prompt, query, *positives, "", *negatives))


def _turns(messages: tuple[Message, ...]) -> str:
    return "\n".join(
        [f"{message.role}: {message.content}{_calls(message)}" for message in messages]
    )


def _calls(message: Message) -> str:
    if not message.tool_calls:
        return ""
    calls = [(call.name, call.arguments) for call in message.tool_calls]
    return json.dumps(calls, ensure_ascii=False)


def _definitions(tools: tuple[object, ...]) -> str:
    return json.dumps(tools, ensure_ascii=False) if tools else ""
