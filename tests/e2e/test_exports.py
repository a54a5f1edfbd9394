"""A tuned model is taken away, and answers elsewhere as it does here."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from e2e.service import Service, make_job, until
from tunesmith.inference import llama_cpp

ENDED = ("succeeded", "failed", "cancelled")
QUESTION = [{"role": "user", "content": "What is the capital of France?"}]
LENGTH = 16


def exported(service: Service, **request: Any) -> dict[str, Any]:
    """Return an export once it has ended."""
    path = f"{service.url}/v1/exports"
    made = httpx.post(path, json=request).json()
    assert made.get("status") == "queued", made

    def ended() -> dict[str, Any] | None:
        found: dict[str, Any] = httpx.get(f"{path}/{made['id']}").json()
        return found if found["status"] in ENDED else None

    return until(ended, 280)


def downloaded(service: Service, export: dict[str, Any], folder: Path) -> Path:
    """Download and unpack an export, whose files are what it says of them."""
    assert export["status"] == "succeeded", export
    answer = httpx.get(f"{service.url}/v1/exports/{export['id']}/content", timeout=60)
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    for file in export["files"]:
        content = (folder / file["name"]).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file["sha256"], file
    return folder


def greedy(model: Any, tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the tokens of a question, and of the greedy answer."""
    prompt = tokenizer.apply_chat_template(
        QUESTION, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )["input_ids"]
    with torch.inference_mode():
        said = model.generate(prompt, max_new_tokens=LENGTH, do_sample=False)
    tokens = said[0].tolist()
    return tokens[: prompt.shape[1]], tokens[prompt.shape[1] :]


def test_a_tiny_model_is_exported_in_each_format_and_goes_with_its_model(
    service: Service, tmp_path: Path
) -> None:
    job = service.wait(make_job(service, epochs=1).id)
    name = job.fine_tuned_model
    assert name is not None
    made = [exported(service, model=name, format=form) for form in ("adapter", "merged", "gguf")]

    folders = [downloaded(service, each, tmp_path / each["format"]) for each in made]

    assert (folders[0] / "adapter_config.json").is_file()
    AutoModelForCausalLM.from_pretrained(folders[1])
    assert (folders[2] / "Modelfile").read_text().startswith("FROM ./model.gguf\n")
    assert all(each["progress"] == 1.0 for each in made)
    ranged = httpx.get(
        f"{service.url}/v1/exports/{made[2]['id']}/content/model.gguf",
        headers={"Range": "bytes=0-3"},
    )
    assert (ranged.status_code, ranged.content) == (206, b"GGUF")
    service.client.models.delete(name)
    for each in made:
        assert httpx.get(f"{service.url}/v1/exports/{each['id']}").status_code == 404
        assert not (service.data / "exports" / each["id"]).exists()


def test_a_cancelled_export_stops(service: Service) -> None:
    job = service.wait(make_job(service, epochs=1).id)
    path = f"{service.url}/v1/exports"
    body = {"model": job.fine_tuned_model, "format": "merged"}
    made = httpx.post(path, json=body).json()

    cancelled = httpx.post(f"{path}/{made['id']}/cancel").json()

    assert cancelled["status"] == "cancelled"
    until(lambda: httpx.delete(f"{path}/{made['id']}").status_code == 200, 60)


@pytest.mark.timeout(900)
@pytest.mark.skipif(not llama_cpp.installed(), reason="xllamacpp is not installed")
def test_a_tuned_smollm2_gives_the_same_greedy_answers_in_peft_transformers_and_llama_cpp(
    service: Service, tmp_path: Path
) -> None:
    rows = [{"instruction": f"Say {n}", "output": f"The number is {n}."} for n in range(16)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = service.client.files.create(file=("say.jsonl", content), purpose="fine-tune")
    job = service.client.fine_tuning.jobs.create(
        model="smollm2-135m-instruct",
        training_file=file.id,
        hyperparameters={"n_epochs": 1, "batch_size": 4},
        extra_body={"tuning": {"held_out_percent": 20}},
    )
    name = service.wait(job.id).fine_tuned_model
    folders = {}
    for form, more in (("adapter", {}), ("merged", {}), ("gguf", {"quantization": "f32"})):
        export = exported(service, model=name, format=form, **more)
        folders[form] = downloaded(service, export, tmp_path / form)
        assert export["parity"]["sides"][-1]["largest_difference"] < 0.02, export["parity"]

    tokenizer = AutoTokenizer.from_pretrained(folders["merged"])
    merged = AutoModelForCausalLM.from_pretrained(folders["merged"], dtype=torch.float32)
    prompt, wanted = greedy(merged, tokenizer)
    [base] = (service.data / "models").iterdir()
    beneath = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    adapted = PeftModel.from_pretrained(beneath, folders["adapter"])

    assert greedy(adapted, AutoTokenizer.from_pretrained(folders["adapter"])) == (prompt, wanted)
    path = folders["gguf"] / "model.gguf"
    with llama_cpp.llama_cpp(path, threads=1, context=256) as asked:
        said = [next(iter(place)) for place in asked.go_on(prompt, LENGTH)]
        assert asked.tokens(tokenizer.decode(prompt)) == prompt
    assert said == wanted
    assert len(said) > 4
