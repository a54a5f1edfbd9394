"""How thoughts are written: between two marks, behind the prompt that inference would give.

A chat template cannot write them: some leave earlier thoughts out, some all of
them, and some open the thought in the generation prompt. So what is learnt is
put together here, as the models that think were trained to write it:
`<think>`, the thought, `</think>`, an empty line, the answer.
"""

from __future__ import annotations

from tunesmith.dataset.turns import Tokenizer
from tunesmith.domain.spec import THINK_MARKS, ThinkMarks


def think_marks(tokenizer: Tokenizer, stated: ThinkMarks) -> ThinkMarks:
    """Return the model's own marks, where its template or vocabulary has them, else `stated`.

    A template may know only one of them: that which it opens thoughts by, or leaves them out by.
    """
    template = str(tokenizer.chat_template)
    own = any(mark in template for mark in THINK_MARKS)
    if own or all(_is_token(mark, tokenizer) for mark in THINK_MARKS):
        return THINK_MARKS
    return stated


def _is_token(mark: str, tokenizer: Tokenizer) -> bool:
    found = tokenizer(mark, add_special_tokens=False, return_offsets_mapping=False)
    return len(found["input_ids"]) == 1


def opens_thought(prompt: str, marks: ThinkMarks) -> bool:
    """Tell whether `prompt` ends with the mark that begins a thought."""
    return prompt.rstrip().endswith(marks[0])


def split_thought(content: str, marks: ThinkMarks) -> tuple[str, str]:
    """Return the thought and the answer in the `content` of a turn; many have no thought."""
    thought, found, answer = content.partition(marks[1])
    if not found:
        return "", content.strip()
    return thought.strip().removeprefix(marks[0]).strip(), answer.strip()


def continuation(prompt: str, *, thought: str, answer: str, marks: ThinkMarks) -> str:
    """Return what is to be said behind `prompt`, up to the end of `answer`.

    It never begins with a line break where the prompt ends with one: both might be
    one token, which the model could not write behind the prompt's own tokens.
    """
    begin, end = marks
    if not opens_thought(prompt, marks):
        lead = f"{begin}\n{thought}\n"
    elif prompt.endswith(begin):
        lead = f"\n{thought}\n"
    else:
        lead = f"{thought}\n" if thought else ""
    return f"{lead}{end}\n\n{answer}"
