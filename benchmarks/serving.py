"""How quickly tuned models answer, beside what people run: `make bench-serving`.

Eight clients ask SmolLM2-135M with four adapters, each its next question as soon as the last is
answered. The same questions go, one by one, through `generate` of transformers with the base model
alone, and through `peft`, which switches to the adapter of each. All answers have the same number
of tokens, and all weights are fp32.

Ends with one line of JSON:

- `answers_per_second`: of ours; `vs_generate` and `vs_peft_switching`: how many times as many as
  theirs, of which 3 are wanted of both.
- `first_token_s`: of ours while nobody else asks; `ttft_vs_generate`: how many times as long as a
  `generate` of one token takes, of which 2 at most are wanted.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from tunesmith.models.environment import ENVIRONMENT

# What replicas of the service have, and what their peers have here too: read upon the next import.
os.environ.update(ENVIRONMENT)

import torch
from base_models import smollm2
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from tunesmith.domain.answers import Sampling
from tunesmith.inference.engine import Engine, Listener, Text
from tunesmith.inference.factors import Adapter

CLIENTS, ADAPTERS, ROUNDS, TOKENS = 8, 4, 3, 48
TIMES = 9
"""How often the first token is waited for."""
CORES = psutil.cpu_count() or 1


def main() -> dict[str, float]:
    """Measure all, and print the figures as the last line."""
    torch.set_num_threads(CORES)
    with tempfile.TemporaryDirectory() as folder:
        base = smollm2(Path(folder))
        adapters = list(make_adapters(base, Path(folder)))
        questions = [ask for ask in prompts(base) for _ in range(ROUNDS)]
        plain = load(base)
        generate = per_second(lambda: one_by_one(plain, questions), answers=len(questions))
        first_of_theirs = first_token(lambda: one_by_one(plain, questions[:1], tokens=1))
        switching = PeftModel.from_pretrained(load(base), adapters[0], adapter_name="0")
        for number, adapter in enumerate(adapters[1:], start=1):
            switching.load_adapter(adapter, adapter_name=str(number))
        peft = per_second(lambda: one_by_one(switching, questions), answers=len(questions))
        with running(base, adapters) as engine:
            ours = per_second(lambda: together(engine, questions), answers=len(questions))
            first_of_ours = first_token(lambda: answered(engine, questions[0], adapter=0, tokens=1))
    figures = {
        "answers_per_second": ours,
        "vs_generate": ours / generate,
        "vs_peft_switching": ours / peft,
        "first_token_s": first_of_ours,
        "ttft_vs_generate": first_of_ours / first_of_theirs,
    }
    print(json.dumps({name: round(value, 4) for name, value in figures.items()}))
    return figures


def load(base: Path) -> Any:
    """Return the base model in fp32."""
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def make_adapters(base: Path, folder: Path) -> Iterator[str]:
    """Save adapters of rank 16 on all linear layers, each of which changes what is said."""
    for number in range(ADAPTERS):
        torch.manual_seed(number)
        config = LoraConfig(task_type="CAUSAL_LM", r=16, target_modules="all-linear")
        adapted = get_peft_model(load(base), config)
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(std=0.01)
        adapted.save_pretrained(folder / str(number))
        yield str(folder / str(number))


def prompts(base: Path) -> list[list[int]]:
    """Return a question of each client, as the chat template writes it."""
    tokenizer = AutoTokenizer.from_pretrained(base)
    asked = "Explain in a few sentences what a {} is, and name two things that it is used for."
    things = ("kettle", "lever", "compass", "prism", "pulley", "lens", "valve", "spring")
    return [
        tokenizer.apply_chat_template(
            [{"role": "user", "content": asked.format(thing)}],
            add_generation_prompt=True,
            return_dict=True,
        )["input_ids"]
        for thing in things[:CLIENTS]
    ]


def one_by_one(model: Any, questions: list[list[int]], *, tokens: int = TOKENS) -> None:
    """Answer all questions in turn by `generate`; where there are adapters, each by its own."""
    for number, question in enumerate(questions):
        if isinstance(model, PeftModel):
            model.set_adapter(str(number % ADAPTERS))
        with torch.inference_mode():
            model.generate(
                input_ids=torch.tensor([question]),
                attention_mask=torch.ones(1, len(question), dtype=torch.int64),
                max_new_tokens=tokens,
                min_new_tokens=tokens,
                do_sample=False,
                pad_token_id=0,
            )


@contextmanager
def running(base: Path, adapters: list[str]) -> Iterator[Engine]:
    """Run the engine with all adapters while the block lasts."""
    engine = Engine(load(base), slots=CLIENTS, longest=1024)
    for number, adapter in enumerate(adapters):
        engine.factors.put(number, Adapter.read(Path(adapter), dtype=torch.float32))
    yield engine
    engine.close()


def together(engine: Engine, questions: list[list[int]]) -> None:
    """Let clients ask all questions, each the next one as soon as its last is answered."""
    left = list(enumerate(questions))
    taking = threading.Lock()

    def client() -> None:
        while True:
            with taking:
                if not left:
                    return
                number, question = left.pop()
            answered(engine, question, adapter=number % ADAPTERS)

    clients = [threading.Thread(target=client) for _ in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()


def answered(engine: Engine, question: list[int], *, adapter: int, tokens: int = TOKENS) -> None:
    """Ask one question, and return when it is answered."""
    over = threading.Event()
    failures: list[Exception] = []

    def fail(error: Exception) -> None:
        failures.append(error)
        over.set()

    listener = Listener(lambda _: True, lambda _: over.set(), fail)
    sampling = Sampling(temperature=0, max_tokens=tokens)
    engine.say(Text(tuple(question), sampling, frozenset(), listener, adapter=adapter))
    over.wait()
    if failures:
        raise failures[0]


def per_second(answer: Callable[[], object], *, answers: int) -> float:
    """Return how many answers a second there are, the first time apart."""
    answer()
    began = time.perf_counter()
    answer()
    return answers / (time.perf_counter() - began)


def first_token(answer: Callable[[], object]) -> float:
    """Return the seconds that the only token of an answer takes, by the median."""

    def seconds() -> float:
        began = time.perf_counter()
        answer()
        return time.perf_counter() - began

    return statistics.median(seconds() for _ in range(TIMES))


if __name__ == "__main__":
    main()
