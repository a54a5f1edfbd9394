"""What jobs on queries and passages hand out: others load it, and it gives what training had."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModel, AutoModelForSequenceClassification

from tunesmith.domain.spec import LoraSpec, Method, Precision
from tunesmith.training import checkpoints
from tunesmith.training.embedding import Embedding
from tunesmith.training.examples import micro_batch_of, micro_batches
from unit.training.ranking import LORA, asked, ranking_rows, read_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tunesmith.artifacts.runs import RunDirectory
    from tunesmith.training.checkpoints import Learner, Snapshot
    from unit.training.conftest import Bench

sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed"
)

RANKED = (Method.EMBEDDING, Method.RERANK)
SHAPES: tuple[LoraSpec | None, ...] = (None, LORA, LoraSpec(rank=4, targets=("query", "dense")))
WEIGHTS = {True: "model.safetensors", False: "adapter_model.safetensors"}


@pytest.fixture
def learners(monkeypatch: pytest.MonkeyPatch) -> list[Learner]:
    """What learnt, as the training process had it at each checkpoint."""
    found: list[Learner] = []
    save = checkpoints.save

    def look_and_save(run: RunDirectory, taken: Snapshot) -> None:
        found.append(taken.learner)
        save(run, taken)

    monkeypatch.setattr(checkpoints, "save", look_and_save)
    return found


def texts(rows: list[dict[str, Any]]) -> list[str]:
    return [text for row in rows for text in (row["query"], *row["pos"], *row["neg"])]


@pytest.mark.parametrize("lora", SHAPES, ids=["full", "lora", "targets"])
@pytest.mark.parametrize(
    "ranking", [{}, {"pooling": "mean"}, {"normalized": False, "temperature": 5.0}], ids=str
)
def test_sentence_transformers_gives_the_vectors_that_training_had(
    bench: Bench,
    bert_folder: Path,
    learners: list[Learner],
    lora: LoraSpec | None,
    ranking: dict[str, Any],
) -> None:
    rows = ranking_rows(12)
    fields = asked(bert_folder, Method.EMBEDDING, lora=lora, passage_max_len=24, **ranking)
    bench.write_spec(rows, n_epochs=3, **fields)
    assert bench.train().error is None
    examples = read_rows(bench, rows, fields)
    learner, spec = learners[-1], bench.run.read_spec()
    learner.model.eval()
    assert spec.ranking is not None
    here = [
        Embedding(spec.ranking, 4).vectors(learner.network, batch).detach()
        for batch in micro_batches(examples.flat(), examples.flat().all)
    ]
    order = np.argsort(-examples.flat().lengths, kind="stable")

    loaded = sentence_transformers.SentenceTransformer(str(bench.output), device="cpu")

    there = loaded.encode(texts(rows), convert_to_tensor=True)
    untuned = AutoModel.from_pretrained(bert_folder)
    assert there.shape == (len(texts(rows)), untuned.config.hidden_size)
    # Passages are cut at 24 tokens, but queries at 128, which is the greatest length beside them.
    fits = torch.tensor([len(text) + 2 <= 24 for text in texts(rows)])[order.tolist()]
    assert fits.sum() > 20
    assert torch.allclose(torch.cat(here)[fits], there[order.tolist()][fits], atol=1e-5)


def test_instructions_go_along_as_prompts(bench: Bench, bert_folder: Path) -> None:
    asks = {"query_instruction": "Find: ", "passage_instruction": "Text: "}
    fields = asked(bert_folder, Method.EMBEDDING, lora=None, **asks)
    bench.write_spec(ranking_rows(12), n_epochs=1, **fields)
    bench.train()

    loaded = sentence_transformers.SentenceTransformer(str(bench.output), device="cpu")

    assert np.allclose(loaded.encode_query("a"), loaded.encode("Find: a"), atol=1e-6)
    assert np.allclose(loaded.encode_document("a"), loaded.encode("Text: a"), atol=1e-6)
    assert not np.allclose(loaded.encode("a"), loaded.encode("Find: a"), atol=1e-2)


@pytest.mark.parametrize("lora", SHAPES, ids=["full", "lora", "targets"])
def test_cross_encoder_gives_the_scores_that_training_had(
    bench: Bench,
    bert_folder: Path,
    learners: list[Learner],
    lora: LoraSpec | None,
    tmp_path: Path,
) -> None:
    rows = [row for row in ranking_rows(12) if row["neg"]]
    fields = asked(bert_folder, Method.RERANK, lora=lora, query_max_len=24, passage_max_len=60)
    bench.write_spec(rows, n_epochs=3, learning_rate=5e-3, **fields)
    assert bench.train().error is None
    examples = read_rows(bench, rows, fields).flat()
    learners[-1].model.eval()
    with torch.no_grad():
        here = torch.cat(
            [learners[-1].network.scores(batch) for batch in micro_batches(examples, examples.all)]
        )
    order = np.argsort(-examples.lengths, kind="stable").tolist()

    folder = bench.output
    if lora is not None:
        # It loads whole models alone: an adapter goes into its base model first.
        base = AutoModelForSequenceClassification.from_pretrained(bert_folder, num_labels=1)
        folder = tmp_path / "merged"
        PeftModel.from_pretrained(base, bench.output).merge_and_unload().save_pretrained(folder)
        learners[-1].tokenizer.save_pretrained(folder)
    loaded = sentence_transformers.CrossEncoder(str(folder), device="cpu")

    pairs = [(row["query"], passage) for row in rows for passage in (*row["pos"], *row["neg"])]
    there = loaded.predict(pairs, activation_fn=torch.nn.Identity(), convert_to_tensor=True)
    assert torch.allclose(here, there[order], atol=1e-5)
    assert here.std() > 1e-3
    assert loaded.tokenizer.model_max_length == 84


@pytest.mark.parametrize("method", RANKED)
def test_an_adapter_loads_in_plain_peft_and_changes_the_model(
    bench: Bench, bert_folder: Path, learners: list[Learner], method: Method
) -> None:
    bench.write_spec(ranking_rows(12), n_epochs=3, **asked(bert_folder, method))
    bench.train()
    ids = torch.tensor([[1, 80, 33, 61, 2]])
    kinds = {
        Method.EMBEDDING: (AutoModel, {}),
        Method.RERANK: (AutoModelForSequenceClassification, {"num_labels": 1}),
    }
    kind, options = kinds[method]

    base = kind.from_pretrained(bert_folder, **options)
    loaded = PeftModel.from_pretrained(base, bench.output).eval()

    network = learners[-1].network
    network.model.eval()
    with torch.no_grad():
        text = micro_batch_of([ids[0]])
        of_method = network.scores if method is Method.RERANK else network.hidden_states
        here, there = of_method(text), loaded(ids)[0].squeeze(0)
        with loaded.disable_adapter():
            before = loaded(ids)[0]
    assert torch.allclose(here, there, atol=1e-6)
    assert not torch.allclose(there, before, atol=1e-4)


@pytest.mark.parametrize("method", RANKED)
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_a_killed_run_ends_with_the_same_bytes_and_another_seed_with_others(
    new_bench: Callable[[str], Bench], bert_folder: Path, method: Method, lora: LoraSpec | None
) -> None:
    fields = asked(bert_folder, method, lora=lora) | {
        "n_epochs": 3,
        "held_out_percent": 20.0,
        "evaluate_every": 2,
        "checkpoint_every": 2,
    }
    benches = {name: new_bench(name) for name in ("whole", "killed", "other")}
    for name, bench in benches.items():
        bench.write_spec(ranking_rows(14), **fields, seed=8 if name == "other" else 7)
    outcomes = {name: benches[name].train() for name in ("whole", "other")}
    benches["killed"].train_until(b"Step 5/")

    outcomes["killed"] = benches["killed"].train(attempt=2)

    def result(name: str) -> bytes:
        return (benches[name].output / WEIGHTS[lora is None]).read_bytes()

    def series(name: str) -> list[object]:
        told = benches[name].metrics()
        return [one.model_dump(exclude={"tokens_per_second", "seconds_left"}) for one in told]

    assert outcomes["whole"].error is None
    assert "Resumed from the checkpoint at step 4 of 9" in benches["killed"].messages()
    assert outcomes["killed"] == outcomes["whole"]
    assert series("killed") == series("whole")
    assert result("killed") == result("whole")
    assert result("other") != result("whole")


def test_each_step_draws_from_all_passages_of_a_row(
    new_bench: Callable[[str], Bench], bert_folder: Path
) -> None:
    """Were the first ones taken always, those behind them would change nothing."""
    rows = [
        {"query": f"q{n}", "pos": [f"p{n}"], "neg": [f"n{n}{other}" for other in "abcdefgh"]}
        for n in range(8)
    ]
    results = []
    for kept in (8, 2):
        bench = new_bench(str(kept))
        few = [row | {"neg": row["neg"][:kept]} for row in rows]
        bench.write_spec(few, n_epochs=2, **asked(bert_folder, Method.RERANK))
        assert bench.train().error is None
        results.append(bench.adapter())

    assert results[0] != results[1]


@pytest.mark.parametrize("method", RANKED)
@pytest.mark.parametrize("lora", [None, LORA], ids=["full", "lora"])
def test_in_bf16_what_is_trained_stays_in_fp32(
    new_bench: Callable[[str], Bench], bert_folder: Path, method: Method, lora: LoraSpec | None
) -> None:
    losses = []
    for precision in (Precision.BF16, Precision.FP32):
        bench = new_bench(precision)
        fields = asked(bert_folder, method, lora=lora, temperature=1.0)
        bench.write_spec(ranking_rows(12), precision=precision, n_epochs=1, **fields)
        assert bench.train().error is None
        losses.append(bench.metrics()[0].train_loss)
        kept = load_file(bench.output / WEIGHTS[lora is None])
        assert {weight.dtype for weight in kept.values()} == {torch.float32}
        assert any("classifier" in name for name in kept) is (method is Method.RERANK)

    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


def test_a_tuned_adapter_is_tuned_on_head_and_all(bench: Bench, bert_folder: Path) -> None:
    fields = asked(bert_folder, Method.RERANK, lora=LoraSpec(rank=4, alpha=8))
    valid = bench.upload("valid", ranking_rows(7))
    bench.write_spec(
        ranking_rows(12), validation_file=valid, n_epochs=8, learning_rate=1e-2, **fields
    )
    bench.train()
    ended = bench.metrics()[-1].valid_loss
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        bench.artifacts.copy(f"{bench.run.output}/{name}", f"output/ftjob-0/{name}")
    bench.artifacts.delete(bench.run.prefix)

    again = {"start_from": "output/ftjob-0", "learning_rate": 1e-8, "n_epochs": 1}
    bench.write_spec(ranking_rows(12), validation_file=valid, **fields, **again)
    assert bench.train().error is None

    assert bench.metrics()[-1].valid_loss == pytest.approx(ended, abs=1e-4)


def test_the_receipt_tells_every_text_and_that_no_token_is_learnt(
    bench: Bench, bert_folder: Path
) -> None:
    row = {"query": "q" * 40, "pos": ["p" * 10], "neg": ["n" * 50, "m"]}
    fields = asked(bert_folder, Method.EMBEDDING, query_max_len=16, passage_max_len=32)
    bench.write_spec([row] * 4, n_epochs=1, held_out_percent=50.0, **fields)
    bench.train()

    sums = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    lines = bench.artifacts.get(f"{bench.run.prefix}/receipt.jsonl").splitlines()

    report = sums["training"]["report"]
    assert (report["examples"], report["learnt_tokens"], report["cut"]) == (4, 0, 4)
    assert report["tokens"] == 4 * (16 + 12 + 32 + 3)
    assert (sums["ranking"]["query_max_len"], sums["chat_template_sha256"]) == (16, None)
    keys = ("text", "side", "tokens", "tokens_learnt", "cut")
    assert [tuple(json.loads(line)[key] for key in keys) for line in lines[:4]] == [
        (1, "query", 16, 0, True),
        (2, "positive", 12, 0, False),
        (3, "negative", 32, 0, True),
        (4, "negative", 3, 0, False),
    ]
    assert {json.loads(line)["split"] for line in lines} == {"train", "held_out"}


def test_metrics_have_the_ranks_and_events_say_so(bench: Bench, bert_folder: Path) -> None:
    fields = asked(bert_folder, Method.EMBEDDING)
    bench.write_spec(ranking_rows(12), n_epochs=1, held_out_percent=25.0, **fields)
    bench.train()

    header = bench.artifacts.get(f"{bench.run.prefix}/metrics.csv").decode().splitlines()[0]
    assert header.endswith(",mrr,valid_mrr")
    assert any("right passages first=" in text for text in bench.messages())
    assert any("0 of them learnt" in text for text in bench.messages())


@pytest.mark.parametrize(
    ("method", "lengths"), [(Method.EMBEDDING, (256, 200)), (Method.RERANK, (128, 128))]
)
def test_lengths_that_the_model_does_not_take_are_shortened_and_told(
    bench: Bench, bert_folder: Path, method: Method, lengths: tuple[int, int]
) -> None:
    fields = asked(bert_folder, method, query_max_len=300, passage_max_len=200)
    long = {"query": "q" * 400, "pos": ["p" * 400], "neg": ["n" * 400]}
    bench.write_spec([long] * 4, n_epochs=1, **fields)

    assert bench.train().error is None

    sums = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))["ranking"]
    assert (sums["query_max_len"], sums["passage_max_len"]) == lengths
    assert any(f"the lengths are {lengths[0]} for queries" in text for text in bench.messages())


def test_a_model_without_a_padding_token_is_no_reranker(bench: Bench, base_folder: Path) -> None:
    bench.write_spec(ranking_rows(8), **asked(base_folder, Method.RERANK))

    error = bench.train().error

    assert error is not None
    assert error.code == "model_unavailable"
    assert "Choose an encoder" in error.message


def test_a_causal_model_gives_vectors_too(bench: Bench, base_folder: Path) -> None:
    fields = asked(base_folder, Method.EMBEDDING, pooling="mean")
    bench.write_spec(ranking_rows(8), n_epochs=1, **fields)

    assert bench.train().error is None


@pytest.mark.parametrize("where", ["training_file", "validation_file"])
def test_a_file_of_which_every_row_is_set_aside_fails_the_job(
    bench: Bench, bert_folder: Path, where: str
) -> None:
    lone: list[dict[str, Any]] = [{"query": "q", "pos": ["p"], "neg": []}] * 4
    training, valid = (lone, None) if where == "training_file" else (ranking_rows(4), lone)
    changes = {"validation_file": bench.upload("valid", valid)} if valid else {}
    bench.write_spec(training, **asked(bert_folder, Method.RERANK), **changes)

    error = bench.train().error

    assert error is not None
    assert error.param == where
    assert "no passage is given that does not answer" in error.message
