"""Fine-tuning as OPEA's service does it: transformers' Trainer in fp32, rows padded to one length.

`hf_trainer.py TASK`, see `trl_sft.py`. Ray Train, which OPEA starts it under, is left out: it costs
half a minute before the first step and nothing afterwards.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import load_dataset
from peft import LoraConfig, get_peft_model
from timing import StepTimes
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(task["model"], dtype=torch.float32),
        LoraConfig(
            r=task["rank"],
            lora_alpha=2 * task["rank"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )

    def encoded(row: dict[str, Any]) -> dict[str, Any]:
        turns = [*row["prompt"], *row["completion"]]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        found = tokenizer(text, truncation=True, max_length=task["length"])
        return {"input_ids": found["input_ids"], "attention_mask": found["attention_mask"]}

    rows = load_dataset("json", data_files=task["rows"], split="train")
    times = StepTimes()
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=task["output"],
            use_cpu=True,
            per_device_train_batch_size=4,
            gradient_accumulation_steps=task["batch"] // 4,
            learning_rate=task["rate"],
            num_train_epochs=task["epochs"],
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            seed=1,
        ),
        train_dataset=rows.map(encoded, remove_columns=rows.column_names),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[times],
    )
    trainer.train()
    model.save_pretrained(task["output"])
    times.write(Path(task["output"]) / "steps.json")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
