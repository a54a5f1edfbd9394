"""LLaMA-Factory's supervised stage with neat packing, its quickest way on a processor.

`llama_factory.py TASK`, see `trl_sft.py`.
"""

from __future__ import annotations

import json
import sys
import types
from pathlib import Path

import task as tasks

# Of these, only parts for sounds are imported, and no build of it fits each build of torch.
sys.modules.setdefault("torchaudio", types.ModuleType("torchaudio"))

from llamafactory.train.tuner import run_exp  # noqa: E402


def main() -> None:
    """Train and write `steps.json` beside the adapter."""
    task, times = tasks.read(), tasks.StepTimes()
    data = Path(task["output"]) / "data"
    data.mkdir(parents=True)
    turns = []
    for line in Path(task["rows"]).read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        turns.append({"messages": [*row["prompt"], *row["completion"]]})
    (data / "rows.json").write_text(json.dumps(turns), encoding="utf-8")
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user"}
    tags |= {"assistant_tag": "assistant", "system_tag": "system"}
    shape = {
        "file_name": "rows.json",
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
    }
    (data / "dataset_info.json").write_text(json.dumps({"rows": shape | {"tags": tags}}))
    run_exp(
        tasks.trainer_arguments(task, at_once=1)
        | {
            "model_name_or_path": task["model"],
            "stage": "sft",
            "do_train": True,
            "finetuning_type": "lora",
            "lora_target": "all",
            "lora_rank": task["rank"],
            "lora_alpha": 2 * task["rank"],
            "dataset": "rows",
            "dataset_dir": str(data),
            "template": "chatml",
            "cutoff_len": task["length"],
            "packing": True,
            "neat_packing": True,
            # By default it computes activations twice, which saves memory and takes time.
            "disable_gradient_checkpointing": True,
            "gradient_accumulation_steps": task["rows_per_step"],
            "overwrite_output_dir": True,
            "report_to": "none",
            "preprocessing_num_workers": 1,
        },
        callbacks=[times],
    )
    times.write(task)


if __name__ == "__main__":
    main()
