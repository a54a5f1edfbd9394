"""A few texts of general knowledge, the same for every job: their loss shows what was forgotten."""

from __future__ import annotations

import json
from io import BytesIO

from transformers import PreTrainedTokenizerBase

from tunesmith.artifacts.protocol import Artifacts
from tunesmith.domain.spec import Method, Policy, TrainSpec
from tunesmith.training.examples import Examples
from tunesmith.training.reading import read_file

GENERAL: tuple[tuple[str, str], ...] = (
    ("What is 7 plus 5?", "7 plus 5 is 12."),
    ("What is 9 times 6?", "9 times 6 is 54."),
    ("Which number comes next: 2, 4, 8, 16?", "The next number is 32."),
    ("What is the capital of France?", "The capital of France is Paris."),
    ("Which planet is nearest to the sun?", "Mercury is the planet nearest to the sun."),
    ("What does water turn into when it freezes?", "When water freezes, it turns into ice."),
    ("How many days are in a week?", "There are seven days in a week."),
    ("Translate to Spanish: good morning", "Buenos días"),
    ("Translate to German: The house is red.", "Das Haus ist rot."),
    ("Write this in the past tense: She walks home.", "She walked home."),
    ("What is the opposite of hot?", "The opposite of hot is cold."),
    ("Write a line of Python that prints hello.", 'print("hello")'),
    ("In Python, how do I get the length of a list named items?", "Use len(items)."),
    ("Is this review good or bad: I loved every minute of it.", "It is a good review."),
    ("Thank you for your help!", "You're welcome! Let me know if you need anything else."),
    ("Can you tell me what I ate yesterday?", "I'm sorry, but I have no way to know that."),
)
"""Questions with their answers."""

_MOST_TOKENS = 1024


def general_examples(
    spec: TrainSpec,
    artifacts: Artifacts,
    *,
    tokenizer: PreTrainedTokenizerBase,
    context: int | None,
) -> Examples | None:
    """Return `GENERAL` as a model of the job sees it, those that fit; `None` where it ranks.

    The answers are learnt, or in pretraining the whole texts. The line of each is its number.
    """
    if spec.ranking is not None:
        return None
    plain = spec.method is Method.PRETRAINING
    rows = [_text(*each) if plain else _chat(*each) for each in GENERAL]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    asked = {
        "method": Method.PRETRAINING if plain else Method.SUPERVISED,
        "max_length": min(context or _MOST_TOKENS, _MOST_TOKENS),
        "over_length": Policy.SET_ASIDE,
    }
    with artifacts.scratch() as folder:
        return read_file(
            BytesIO(content),
            tokenizer,
            spec=spec.model_copy(update=asked),
            limit=None,
            folder=folder,
        ).examples


def _text(question: str, answer: str) -> dict[str, object]:
    return {"text": f"{question} {answer}"}


def _chat(question: str, answer: str) -> dict[str, object]:
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return {"messages": turns}
