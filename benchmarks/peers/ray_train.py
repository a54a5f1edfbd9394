"""A job's first step by transformers' Trainer on one worker of Ray Train: `ray_train.py TASK`.

See `task.py`; the entrypoint of a Ray job. The time at which the step has ended, in unix seconds,
goes to `first_step` beside the result.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import task as tasks
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer


def main() -> None:
    """Train one step."""
    task = tasks.read()
    TorchTrainer(
        learn,
        train_loop_config=task,
        scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": task["threads"]}),
        run_config=RunConfig(storage_path=task["output"], name="ray"),
    ).fit()


def learn(task: dict[str, Any]) -> None:
    """Take one step on the worker."""
    import torch  # noqa: PLC0415  the driver has no need of it
    from datasets import load_dataset  # noqa: PLC0415
    from peft import get_peft_model  # noqa: PLC0415
    from transformers import (  # noqa: PLC0415
        AutoModelForCausalLM,
        AutoTokenizer,
        DataCollatorForLanguageModeling,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class FirstStep(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, *_: Any, **__: Any) -> None:
            (Path(task["output"]) / "first_step").write_text(str(time.time()), encoding="utf-8")

    torch.set_num_threads(task["threads"])
    tokenizer = AutoTokenizer.from_pretrained(task["model"])
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    frozen = AutoModelForCausalLM.from_pretrained(task["model"], dtype=tasks.weights_of(task))

    def encoded(row: dict[str, Any]) -> dict[str, Any]:
        text = tokenizer.apply_chat_template(row["messages"], tokenize=False)
        return dict(tokenizer(text, truncation=True, max_length=task["length"]))

    rows = load_dataset("json", data_files=task["rows"], split="train")
    arguments = tasks.trainer_arguments(task, at_once=task["batch"]) | {"max_steps": 1}
    Trainer(
        model=get_peft_model(frozen, tasks.adapter(task)),
        args=TrainingArguments(**arguments),
        train_dataset=rows.map(encoded, remove_columns=rows.column_names),
        data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
        callbacks=[FirstStep()],
    ).train()


if __name__ == "__main__":
    main()
