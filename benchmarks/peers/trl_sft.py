"""TRL's SFTTrainer on chat rows, with LoRA on all linear layers: `trl_sft.py TASK`.

`TASK` is a JSON file: `model`, `rows` (chat rows as JSON lines), `output`, `batch`, `length`,
`rate`, `epochs`, `rank`, and `packed`, by which it packs in bf16; else it is as it comes, in fp32.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from timing import StepTimes
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    packed = task["packed"]
    config = SFTConfig(
        output_dir=task["output"],
        use_cpu=True,
        bf16=packed,
        model_init_kwargs={"dtype": "bfloat16" if packed else "float32"},
        packing=packed,
        max_length=task["length"],
        per_device_train_batch_size=1 if packed else 4,
        # A packed row holds as many examples as fit, so that fewer rows make the same batch.
        gradient_accumulation_steps=task["rows_per_step"] if packed else task["batch"] // 4,
        learning_rate=task["rate"],
        num_train_epochs=task["epochs"],
        gradient_checkpointing=False,
        assistant_only_loss=False,
        completion_only_loss=True,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        seed=1,
    )
    rows = load_dataset("json", data_files=task["rows"], split="train")
    times = StepTimes()
    trainer = SFTTrainer(
        model=task["model"],
        args=config,
        train_dataset=rows,
        callbacks=[times],
        peft_config=LoraConfig(
            r=task["rank"],
            lora_alpha=2 * task["rank"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trainer.train()
    trainer.save_model(task["output"])
    times.write(Path(task["output"]) / "steps.json")


if __name__ == "__main__":
    torch.set_num_threads(2)
    main()
