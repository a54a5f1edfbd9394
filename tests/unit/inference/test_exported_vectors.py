"""Models of vectors and scores are handed out where these are as training had them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel

from models.tiny import save_tiny_bert
from tunesmith.domain.exports import ExportFailure, ExportFormat, ExportOutcome, Quantization
from tunesmith.domain.spec import Method, RankingSpec
from tunesmith.inference import exporting, merging
from tunesmith.inference.outputs import OUTPUT_BOUNDS
from tunesmith.inference.source import Source
from unit.inference.test_exporting import KINDS, SMALL, Exports
from unit.training.conftest import JOB
from unit.training.ranking import ranking_rows

RANKING = RankingSpec(group_size=2, query_max_len=48, passage_max_len=64)


@pytest.fixture
def encoder(tmp_path: Path) -> Exports:
    return Exports(tmp_path, save_tiny_bert)


def differences(outcome: ExportOutcome) -> dict[str, float]:
    """The largest difference of each side, none of which is beyond its bound."""
    assert outcome.error is None, outcome.error
    assert outcome.parity is not None
    assert outcome.parity.measure == "output"
    assert {each.read_by for each in outcome.parity.sides} == {"sentence-transformers"}
    return {each.side: each.largest_difference for each in outcome.parity.sides}


@pytest.mark.parametrize("kind", ["lora", "dora", "qlora", "whole"])
@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_vectors_and_scores_are_those_of_training_served_and_merged(
    encoder: Exports, method: Method, kind: str
) -> None:
    encoder.tune(rows=ranking_rows(12), method=method, ranking=RANKING, lora=KINDS[kind])

    merged = encoder.make(ExportFormat.MERGED)

    found = differences(merged)
    assert list(found) == ["served", "merged"]
    assert max(found.values()) < 1e-4
    assert ("modules.json" in {each.name for each in merged.files}) is (method is Method.EMBEDDING)


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_an_adapter_of_vectors_or_scores_is_compared_as_it_is_served_and_is_no_gguf(
    encoder: Exports, method: Method
) -> None:
    encoder.tune(rows=ranking_rows(12), method=method, ranking=RANKING, lora=SMALL)

    adapter = encoder.make(ExportFormat.ADAPTER)
    refused = encoder.make(ExportFormat.GGUF).error

    assert differences(adapter).keys() == {"served"}
    assert refused is not None
    assert refused.code is ExportFailure.FORMAT_UNSUPPORTED
    assert "makes no texts" in refused.message


@pytest.mark.parametrize(
    "changes",
    [
        {"pooling": "mean"},
        {"normalized": False},
        {"query_instruction": "Find: ", "passage_instruction": "Text: "},
        # Shorter than what is asked.
        {"query_max_len": 12, "passage_max_len": 12},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_vectors_are_compared_as_they_were_learnt(
    encoder: Exports, changes: dict[str, Any]
) -> None:
    ranking = RANKING.model_copy(update=changes)
    encoder.tune(rows=ranking_rows(12), method=Method.EMBEDDING, ranking=ranking, lora=SMALL)

    assert differences(encoder.make(ExportFormat.MERGED))["served"] < 1e-4


def test_scores_are_compared_of_pairs_that_are_not_cut(encoder: Exports) -> None:
    short = RANKING.model_copy(update={"query_max_len": 10, "passage_max_len": 10})
    encoder.tune(rows=ranking_rows(12), method=Method.RERANK, ranking=short, lora=SMALL)

    assert differences(encoder.make(ExportFormat.MERGED))["merged"] < 1e-4


@pytest.mark.parametrize("form", [Quantization.F16, Quantization.BF16])
@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_merged_weights_of_fewer_bits_are_within_their_bound(
    encoder: Exports, method: Method, form: Quantization
) -> None:
    encoder.tune(rows=ranking_rows(12), method=method, ranking=RANKING, lora=SMALL)

    outcome = encoder.make(ExportFormat.MERGED, quantization=form)

    assert 0 < differences(outcome)["merged"] < OUTPUT_BOUNDS[form]


def test_vectors_of_another_pooling_are_not_handed_out(encoder: Exports) -> None:
    encoder.tune(rows=ranking_rows(12), method=Method.EMBEDDING, ranking=RANKING, lora=SMALL)
    pooling = encoder.root / "data" / "output" / JOB / "1_Pooling" / "config.json"
    told = json.loads(pooling.read_text())
    pooling.write_text(
        json.dumps(told | {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True})
    )

    outcome = encoder.make(ExportFormat.ADAPTER)

    assert outcome.error is not None
    assert outcome.error.code is ExportFailure.NOT_EQUAL
    assert "'served' (sentence-transformers)" in outcome.error.message
    assert "the vector differs by" in outcome.error.message
    assert outcome.files == ()


@pytest.mark.parametrize("method", [Method.EMBEDDING, Method.RERANK])
def test_what_was_merged_wrongly_is_not_handed_out(
    encoder: Exports, monkeypatch: pytest.MonkeyPatch, method: Method
) -> None:
    encoder.tune(rows=ranking_rows(12), method=method, ranking=RANKING, lora=SMALL)

    def spoilt(source: Source) -> PreTrainedModel:
        model = merging.merged(source)
        for weight in model.parameters():
            weight.data.mul_(1.3)
        return model

    monkeypatch.setattr(exporting, "merged", spoilt)

    outcome = encoder.make(ExportFormat.MERGED)

    assert outcome.error is not None
    assert outcome.error.code is ExportFailure.NOT_EQUAL
    assert "'merged' (sentence-transformers)" in outcome.error.message
    assert not encoder.files.exists()
