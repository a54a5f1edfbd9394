"""Continued pretraining by transformers' Trainer, LoRA on all linear layers: `hf_texts.py TASK`.

As in transformers' own example of language modelling, the texts are put one behind the other and
cut into rows of one length, so that nothing is padded and a row may begin in the midst of a text;
what is behind the last whole row is left out. Besides what `task.py` names, `TASK` has
`rows_per_step`, such rows that make a batch.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import task as tasks
from datasets import Dataset, load_dataset
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task, times = tasks.read(), tasks.StepTimes()
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    frozen = AutoModelForCausalLM.from_pretrained(task["model"], dtype=tasks.weights_of(task))
    model = get_peft_model(frozen, tasks.adapter(task))
    texts = load_dataset("json", data_files=task["rows"], split="train")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            **tasks.trainer_arguments(task, at_once=1),
            gradient_accumulation_steps=task["rows_per_step"],
        ),
        train_dataset=Dataset.from_list(_rows(texts["text"], tokenizer, length=task["length"])),
        data_collator=default_data_collator,
        callbacks=[times],
    )
    trainer.train()
    model.save_pretrained(task["output"])
    times.write(task)


def _rows(texts: list[str], tokenizer: Any, *, length: int) -> list[dict[str, list[int]]]:
    ended = (tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts)
    ids = list(chain.from_iterable(ended))
    starts = range(0, len(ids) - length + 1, length)
    return [{"input_ids": (row := ids[at : at + length]), "labels": row} for at in starts]


if __name__ == "__main__":
    main()
