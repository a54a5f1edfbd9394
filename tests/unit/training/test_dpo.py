"""Preference pairs: the loss is the paper's, and a pair stays a pair."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.artifacts.receipts import read_line
from tunesmith.domain.preferences import Sigmoid
from tunesmith.domain.spec import LoraSpec, Method
from tunesmith.training import examples as examples_module
from tunesmith.training.dpo import Dpo
from tunesmith.training.examples import Examples, learnt_by, micro_batches
from tunesmith.training.network import Network
from tunesmith.training.reading import read_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from unit.training.conftest import Bench

DPO: dict[str, Any] = {
    "method": Method.DPO,
    "beta": 0.3,
    "preference": Sigmoid(),
    "lora": LoraSpec(rank=4, alpha=8),
}


def pair_rows(count: int) -> list[dict[str, Any]]:
    """Pairs whose preferred answer is in capitals; the lengths differ, within a pair too."""
    return [
        {
            "input": {"messages": [{"role": "user", "content": f"Say {n}{' please' * (n % 3)}"}]},
            "preferred_output": [{"role": "assistant", "content": f"YES {n} " * (1 + n % 2)}],
            "non_preferred_output": [{"role": "assistant", "content": f"no {n} " * (1 + n % 4)}],
        }
        for n in range(count)
    ]


@pytest.fixture
def examples(bench: Bench) -> Examples:
    spec = bench.write_spec(pair_rows(7), **DPO)
    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    with bench.artifacts.open(spec.training_file.key) as stream:
        return read_file(
            stream, tokenizer, spec=spec, limit=None, folder=Path(gettempdir())
        ).examples


def by_hand(model: torch.nn.Module, text: str, *, answer_from: int, tokenizer: Any) -> float:
    """Log-probability of the tokens from `answer_from` on, one after the other."""
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        chances = torch.log_softmax(model(torch.tensor([tokens])).logits[0].double(), dim=-1)
    return sum(chances[at - 1, tokens[at]].item() for at in range(answer_from, len(tokens)))


def loss_by_hand(tuned: torch.nn.Module, base: torch.nn.Module, bench: Bench, beta: float) -> float:
    """Equation 7 of the paper, written out, over `pair_rows(7)`."""
    tokenizer = AutoTokenizer.from_pretrained(bench.base)
    losses = []
    for row in pair_rows(7):
        prompt = tokenizer.apply_chat_template(
            row["input"]["messages"], tokenize=False, add_generation_prompt=True
        )
        start = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
        gains = []
        for key in ("preferred_output", "non_preferred_output"):
            text = f"{prompt}{row[key][0]['content']}<|im_end|>"
            now = by_hand(tuned, text, answer_from=start, tokenizer=tokenizer)
            before = by_hand(base, text, answer_from=start, tokenizer=tokenizer)
            gains.append(now - before)
        losses.append(-math.log(1 / (1 + math.exp(-beta * (gains[0] - gains[1])))))
    return sum(losses) / len(losses)


def test_the_held_out_loss_is_the_papers_written_out_by_hand(bench: Bench) -> None:
    valid = bench.upload("valid", pair_rows(7))
    bench.write_spec(pair_rows(9), validation_file=valid, n_epochs=3, **DPO)
    bench.train()

    base = AutoModelForCausalLM.from_pretrained(bench.base).eval()
    other = AutoModelForCausalLM.from_pretrained(bench.base)
    tuned = PeftModel.from_pretrained(other, bench.output).eval()

    last = bench.metrics()[-1]
    assert last.valid_loss == pytest.approx(loss_by_hand(tuned, base, bench, 0.3), abs=1e-5)
    assert last.valid_loss is not None
    assert last.valid_loss < math.log(2) - 0.01


def test_the_first_loss_is_ln_2_and_margins_grow_from_nothing(bench: Bench) -> None:
    bench.write_spec(pair_rows(12), n_epochs=8, learning_rate=2e-2, **DPO)

    assert bench.train().error is None

    first, last = bench.metrics()[0], bench.metrics()[-1]
    assert first.train_loss == pytest.approx(math.log(2), abs=1e-5)
    assert first.rewards_margin == pytest.approx(0, abs=1e-5)
    assert last.rewards_margin is not None
    assert last.rewards_margin > 1
    assert last.rewards_chosen is not None
    assert last.rewards_rejected is not None
    assert last.rewards_margin == pytest.approx(last.rewards_chosen - last.rewards_rejected)
    assert last.train_mean_token_accuracy == 1
    assert last.train_loss < 0.5


def test_the_chosen_answer_comes_first_and_prompts_are_not_learnt(
    bench: Bench, examples: Examples
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(bench.base)

    learnt = [
        [
            tokenizer.decode(examples.tokens[start:end][examples.learn[start:end]])
            for start, end in zip(starts, ends, strict=True)
        ]
        for starts, ends in zip(examples.starts, examples.ends, strict=True)
    ]

    assert learnt == [
        [f"{row[key][0]['content']}<|im_end|>" for key in ("preferred_output", NON_PREFERRED)]
        for row in pair_rows(7)
    ]


NON_PREFERRED = "non_preferred_output"


@pytest.mark.parametrize("budget", [1, 150, 100_000])
def test_a_pair_is_never_split_and_the_loss_is_the_same_whatever_the_micro_batches(
    bench: Bench, examples: Examples, monkeypatch: pytest.MonkeyPatch, budget: int
) -> None:
    model = AutoModelForCausalLM.from_pretrained(bench.base)
    known = Examples(**{**vars(examples), "reference": np.arange(14.0).reshape(7, 2) - 60})
    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", budget)

    batches = list(micro_batches(known, known.all))
    objective = Dpo(0.3)
    loss = sum(objective.measure(Network(model), batch).loss.item() for batch in batches)

    monkeypatch.setattr(examples_module, "MICRO_BATCH_TOKENS", 10**9)
    [whole] = micro_batches(known, known.all)
    assert sum(objective.count(batch) for batch in batches) == 7
    for batch in batches:
        rows = [
            known.tokens[start:end].tolist()
            for at in batch.examples
            for start, end in zip(known.starts[at], known.ends[at], strict=True)
        ]
        texts = [ids.tolist() for ids in torch.split(batch.input_ids, list(batch.lengths))]
        assert texts == rows
    assert loss == pytest.approx(objective.measure(Network(model), whole).loss.item(), rel=1e-6)


def test_a_resumed_run_keeps_its_reference_and_ends_with_the_same_bytes(
    new_bench: Callable[[str], Bench],
) -> None:
    whole, killed = new_bench("whole"), new_bench("killed")
    changes = {**DPO, "n_epochs": 3, "held_out_percent": 20.0, "checkpoint_every": 2}
    changes["lora"] = LoraSpec(rank=4, dropout=0.2)
    whole.write_spec(pair_rows(12), **changes)
    whole.train()
    killed.write_spec(pair_rows(12), **changes)
    killed.train_until(b"Step 6/")

    killed.train(attempt=2)

    def series(bench: Bench) -> list[object]:
        return [
            one.model_dump(exclude={"tokens_per_second", "seconds_left"}) for one in bench.metrics()
        ]

    assert series(killed) == series(whole)
    assert killed.adapter() == whole.adapter()
    assert [text for text in killed.messages() if text.startswith("Measuring")] == [
        "Measuring the model on 12 pairs before it is tuned"
    ]


def test_the_table_of_metrics_has_the_rewards(bench: Bench) -> None:
    bench.write_spec(pair_rows(4), n_epochs=1, **DPO)
    bench.train()

    header = bench.artifacts.get(f"{bench.run.prefix}/metrics.csv").decode().splitlines()[0]

    assert header.endswith(",rewards_chosen,rewards_rejected,rewards_margin")


def test_only_pairs_that_the_run_will_see_are_measured_before_it() -> None:
    few = learnt_by(2, count=100, batch_size=4, seed=7)

    assert len(few) == 8
    assert learnt_by(10**6, count=10, batch_size=4, seed=7).tolist() == list(range(10))


def test_a_tuned_adapter_that_is_tuned_on_is_its_own_reference(bench: Bench) -> None:
    bench.write_spec(pair_rows(8), n_epochs=4, learning_rate=2e-2, **DPO)
    bench.train()
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        bench.artifacts.copy(f"{bench.run.output}/{name}", f"output/ftjob-0/{name}")
    bench.artifacts.delete(bench.run.prefix)

    bench.write_spec(pair_rows(8), n_epochs=1, start_from="output/ftjob-0", **DPO)
    bench.train()

    assert bench.metrics()[0].train_loss == pytest.approx(math.log(2), abs=1e-5)


def test_a_pair_has_a_receipt_for_each_answer(bench: Bench) -> None:
    bench.write_spec(pair_rows(4), n_epochs=1, **DPO)
    bench.train()

    with bench.artifacts.open(f"{bench.run.prefix}/receipt.parquet") as stream:
        chosen, rejected = read_line(stream, "training", line=2)

    assert (chosen.side, chosen.text) == ("chosen", 1)
    assert (rejected.side, rejected.text) == ("rejected", 2)
    assert "".join(chosen.pieces or ()).endswith("YES 1 YES 1 <|im_end|>")
    assert "".join(rejected.pieces or ()).endswith("no 1 no 1 <|im_end|>")
