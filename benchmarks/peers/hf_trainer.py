"""Fine-tuning as OPEA's service does it: transformers' Trainer in fp32, rows padded to one length.

`hf_trainer.py TASK`, see `task.py`; `bf16` is not heeded. Ray Train, which OPEA starts it under, is
left out: it costs half a minute before the first step and nothing afterwards.
"""

from __future__ import annotations

from typing import Any

import task as tasks
import torch
from datasets import load_dataset
from peft import get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task, times = tasks.read() | {"bf16": False}, tasks.StepTimes()
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    frozen = AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32)
    model = get_peft_model(frozen, tasks.adapter(task))

    def encoded(row: dict[str, Any]) -> dict[str, Any]:
        turns = [*row["prompt"], *row["completion"]]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        found = tokenizer(text, truncation=True, max_length=task["length"])
        return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}

    rows = load_dataset("json", data_files=task["rows"], split="train")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            **tasks.trainer_arguments(task, at_once=4),
            gradient_accumulation_steps=task["batch"] // 4,
        ),
        train_dataset=rows.map(encoded, remove_columns=rows.column_names),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[times],
    )
    trainer.train()
    model.save_pretrained(task["output"])
    times.write(task)


if __name__ == "__main__":
    main()
