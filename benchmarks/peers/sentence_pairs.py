"""sentence-transformers' trainer on questions with their answers: `sentence_pairs.py TASK`.

All weights are trained by MultipleNegativesRankingLoss, for which the other answers of a batch are
wrong ones. Besides what `task.py` names, `TASK` has `temperature`.
"""

from __future__ import annotations

import task as tasks
from datasets import load_dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.losses import MultipleNegativesRankingLoss


def main() -> None:
    """Train and write `steps.json` beside the model."""
    task, times = tasks.read(), tasks.StepTimes()
    model = SentenceTransformer(task["model"], device="cpu")
    model.max_seq_length = task["length"]
    trainer = SentenceTransformerTrainer(
        model=model,
        # A loss among all pairs of a batch cannot be taken in parts: the batch goes at once.
        args=SentenceTransformerTrainingArguments(
            **tasks.trainer_arguments(task, at_once=task["batch"])
        ),
        train_dataset=load_dataset("json", data_files=task["rows"], split="train"),
        loss=MultipleNegativesRankingLoss(model, scale=1 / task["temperature"]),
        callbacks=[times],
    )
    trainer.train()
    model.save_pretrained(task["output"])
    times.write(task)


if __name__ == "__main__":
    main()
