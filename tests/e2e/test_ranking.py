"""OPEA's tasks `embedding` and `rerank` and full fine-tuning, from the request to the result."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from e2e.service import Service, running
from models.tiny import save_tiny_bert, save_tiny_llama

transformers = pytest.importorskip("transformers", reason="the training side is not installed")
sentence_transformers = pytest.importorskip(
    "sentence_transformers", reason="sentence-transformers is not installed"
)

ROWS = [
    {"query": f"where is {n}", "pos": [f"{n} is here"], "neg": [f"{n} is gone", "nobody knows"]}
    for n in range(12)
]
SAID = [{"instruction": f"Say {n}", "input": "", "output": f"{n}"} for n in range(12)]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("ranking")
    save_tiny_bert(folder / "bert")
    save_tiny_llama(folder / "llama")
    (folder / "data").mkdir()
    settings = "".join(
        f'[models.{name}]\nsource = {{ kind = "folder", path = "{folder / name}" }}\n'
        for name in ("bert", "llama")
    )
    (folder / "data" / "settings.toml").write_text(settings)
    with running(folder / "data") as service:
        yield service


def tuned(service: Service, name: str, *, rows: list[dict[str, Any]], model: str) -> Path:
    """Return the folder of the result of the task `name`, with OPEA's defaults but for the null."""
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    service.client.files.create(file=(f"{name}.jsonl", content), purpose="fine-tune")
    body = {
        "model": model,
        "training_file": f"{name}.jsonl",
        "General": {"task": name, "lora_config": None},
        "Dataset": {"train_group_size": 3, "query_max_len": 32, "passage_max_len": 32},
        "Training": {"batch_size": 4},
    }
    made = httpx.post(f"{service.url}/v1/fine_tuning/jobs", json=body, timeout=20).json()
    ended = service.wait(made["id"])
    assert ended.status == "succeeded", ended.error
    return service.data / "output" / ended.id


def test_vectors_are_tuned_and_load(service: Service) -> None:
    folder = tuned(service, "embedding", rows=ROWS, model="bert")

    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu")

    assert model.encode(["where is 3"]).shape == (1, 32)
    client = service.client.with_options(timeout=180)
    made = next(each.id for each in client.models.list() if "ft:bert" in each.id)
    answered = client.embeddings.create(model=made, input=["where is 3", "3 is here"])
    wanted = model.encode(["where is 3", "3 is here"])
    assert np.allclose([each.embedding for each in answered.data], wanted, atol=1e-5)
    assert answered.usage.prompt_tokens > 4
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=made, messages=[{"role": "user", "content": "3"}])
    assert refused.value.code == "wrong_kind_of_model"


def test_a_reranker_is_tuned_and_loads(service: Service) -> None:
    folder = tuned(service, "rerank", rows=ROWS, model="bert")

    model = sentence_transformers.CrossEncoder(str(folder), device="cpu")

    pairs = [("where is 3", "3 is here"), ("where is 3", "4 is here")]
    wanted = model.predict(pairs)
    made = next(each.id for each in service.client.models.list() if "ft:bert" in each.id)
    body = {"model": made, "query": "where is 3", "documents": [passage for _, passage in pairs]}
    answered = httpx.post(f"{service.url}/v1/rerank", json=body, timeout=180).json()
    found = {each["index"]: each["relevance_score"] for each in answered["results"]}
    assert np.allclose([found[0], found[1]], wanted, atol=1e-5)
    scores = [each["relevance_score"] for each in answered["results"]]
    assert scores == sorted(scores, reverse=True)


def test_a_null_for_the_adapter_tunes_all_weights(service: Service) -> None:
    folder = tuned(service, "instruction_tuning", rows=SAID, model="llama")

    assert transformers.AutoModelForCausalLM.from_pretrained(folder).config.hidden_size == 32
    assert not (folder / "adapter_config.json").exists()
