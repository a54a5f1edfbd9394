"""TRL's DPOTrainer on pairs of answers, with LoRA on all linear layers: `trl_dpo.py TASK`.

Besides what `task.py` names, `TASK` has `beta`, and `at_once`, the pairs that go through the model
together. The reference is the model without its adapter, measured in each step, as it comes; this
release pads in any case, so that single pairs waste least.
"""

from __future__ import annotations

import task as tasks
from datasets import load_dataset
from trl import DPOConfig, DPOTrainer


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task, times = tasks.read(), tasks.StepTimes()
    config = DPOConfig(
        **tasks.trainer_arguments(task, at_once=task["at_once"]),
        model_init_kwargs={"dtype": tasks.weights_of(task)},
        gradient_accumulation_steps=task["batch"] // task["at_once"],
        max_length=task["length"],
        beta=task["beta"],
    )
    trainer = DPOTrainer(
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
