"""Stands in for vLLM: takes what vLLM 0.29 takes, and lets transformers and peft compute it.

What it is given it remembers, and refuses what vLLM would refuse. Where vLLM is installed, a test
compares the fields that it knows with vLLM's own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tunesmith.domain.answers import Sampling
from tunesmith.inference.sampling import Sampler
from tunesmith.inference.vllm_engine import Library

NEWS = "DELTA"
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)


@dataclass(kw_only=True)
class Arguments:
    """`AsyncEngineArgs`, as far as it is used."""

    model: str
    skip_tokenizer_init: bool = False
    generation_config: str = "auto"
    max_model_len: int | None = None
    max_logprobs: int = 20
    enable_lora: bool = False
    max_loras: int = 1
    max_cpu_loras: int | None = None
    max_lora_rank: int = 16
    disable_log_stats: bool = False

    def __post_init__(self) -> None:
        if self.max_lora_rank not in RANKS:
            raise ValueError(f"max_lora_rank is none of {RANKS}")


@dataclass(kw_only=True)
class Params:
    """`SamplingParams`, as far as it is used."""

    max_tokens: int | None = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: dict[int, float] | None = None
    logprobs: int | None = None
    ignore_eos: bool = False
    stop_token_ids: list[int] = field(default_factory=list)
    detokenize: bool = True
    output_kind: str = "CUMULATIVE"

    def sampling(self) -> Sampling:
        """The same in our words."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            frequency_penalty=self.frequency_penalty,
            presence_penalty=self.presence_penalty,
            logit_bias=self.logit_bias or {},
            logprobs=self.logprobs,
        )


@dataclass(kw_only=True)
class Lora:
    """`LoRARequest`."""

    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    """One of `CompletionOutput.logprobs`."""

    logprob: float


@dataclass
class Completion:
    """`CompletionOutput`, as far as it is read."""

    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class Output:
    """`RequestOutput`, as far as it is read."""

    outputs: list[Completion]
    finished: bool


class ModelConfig:
    """`AsyncLLM.model_config`, as far as it is read."""

    def __init__(self, model: Any, max_model_len: int) -> None:
        self.max_model_len = max_model_len
        self._vocabulary = int(model.config.vocab_size)

    def get_vocab_size(self) -> int:
        return self._vocabulary


class Llm:
    """`AsyncLLM`."""

    made: list[Llm] = []  # noqa: RUF012  those of a test, which empties it
    context = 200
    """Tokens for which its card has room."""

    def __init__(self, arguments: Arguments) -> None:
        if not Path(arguments.model, "config.json").is_file():
            raise ValueError("no such model")
        self.arguments = arguments
        self._model = AutoModelForCausalLM.from_pretrained(arguments.model).eval()
        self.model_config = ModelConfig(self._model, self.context)
        self.errored = False
        self.closed = False
        self.asked: list[tuple[Params, Lora | None]] = []
        self.aborted: list[str] = []
        self.loras: dict[int, Any] = {}
        Llm.made.append(self)

    @classmethod
    def from_engine_args(cls, engine_args: Arguments) -> Llm:
        # As vLLM does where it finds itself in a loop; it is asked there alone.
        asyncio.get_running_loop()
        return cls(engine_args)

    async def add_lora(self, lora_request: Lora) -> bool:
        rank = rank_of(Path(lora_request.lora_path))
        if rank > self.arguments.max_lora_rank:
            raise RuntimeError(f"Call to add_lora method failed: rank {rank} is too large")
        if len(self.loras) >= (self.arguments.max_cpu_loras or 1):
            raise RuntimeError("An adapter that may be in use would be taken away.")
        base = AutoModelForCausalLM.from_pretrained(self.arguments.model)
        self.loras[lora_request.lora_int_id] = PeftModel.from_pretrained(
            base, lora_request.lora_path
        ).eval()
        return True

    async def remove_lora(self, lora_id: int) -> bool:
        return self.loras.pop(lora_id, None) is not None

    async def generate(
        self,
        prompt: dict[str, list[int]],
        sampling_params: Params,
        request_id: str,
        *,
        lora_request: Lora | None = None,
    ) -> AsyncGenerator[Output]:
        assert sampling_params.output_kind == NEWS
        self.asked.append((sampling_params, lora_request))
        tokens = list(prompt["prompt_token_ids"])
        if max(tokens) >= self.model_config.get_vocab_size():
            # Nothing checks it where there is no tokenizer.
            self.errored = True
            raise RuntimeError("EngineCore encountered an issue.")
        model = self._model if lora_request is None else self.loras[lora_request.lora_int_id]
        sampler = Sampler(sampling_params.sampling())
        reason = None
        try:
            for number in range(1, (sampling_params.max_tokens or 0) + 1):
                # Others have their turn between two tokens.
                await asyncio.sleep(0)
                if self.errored:
                    raise RuntimeError("EngineCore encountered an issue.")
                with torch.inference_mode():
                    logits = model(torch.tensor([tokens])).logits[0, -1].float()
                chosen = sampler.choose(logits)
                tokens.append(chosen.token)
                likely = {each.token: Logprob(each.logprob) for each in chosen.likeliest}
                if chosen.token in sampling_params.stop_token_ids:
                    reason = "stop"
                elif number == sampling_params.max_tokens:
                    reason = "length"
                told = None
                if sampling_params.logprobs is not None and chosen.logprob is not None:
                    told = [{chosen.token: Logprob(chosen.logprob)} | likely]
                yield Output([Completion([chosen.token], reason, told)], reason is not None)
                if reason:
                    return
        except (asyncio.CancelledError, GeneratorExit):
            if reason is None:
                self.aborted.append(request_id)
            raise

    def shutdown(self) -> None:
        self.closed = True


def rank_of(adapter: Path) -> int:
    """Return the rank that the config of `adapter` states."""
    return int(json.loads((adapter / "adapter_config.json").read_text())["r"])


def library() -> Library:
    """Return what stands in for vLLM."""
    return Library(arguments=Arguments, engine=Llm, sampling=Params, news=NEWS, adapter=Lora)
