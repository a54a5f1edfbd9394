"""TRL's SFTTrainer on chat rows, packed, with LoRA on all linear layers: `trl_sft.py TASK`.

Besides what `task.py` names, `TASK` has `rows_per_step`, packed rows that make a batch.
"""

from __future__ import annotations

import task as tasks
from datasets import load_dataset
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task, times = tasks.read(), tasks.StepTimes()
    config = SFTConfig(
        **tasks.trainer_arguments(task, at_once=1),
        model_init_kwargs={"dtype": tasks.weights_of(task)},
        packing=True,
        max_length=task["length"],
        # A packed row holds as many examples as fit, so that fewer rows make the same batch.
        gradient_accumulation_steps=task["rows_per_step"],
        assistant_only_loss=False,
        completion_only_loss=True,
    )
    trainer = SFTTrainer(
        model=task["model"],
        args=config,
        train_dataset=load_dataset("json", data_files=task["rows"], split="train"),
        callbacks=[times],
        peft_config=tasks.adapter(task),
    )
    trainer.train()
    trainer.save_model(task["output"])
    times.write(task)


if __name__ == "__main__":
    main()
