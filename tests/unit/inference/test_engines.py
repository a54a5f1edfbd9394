"""What continues texts does so alike on processors and through vLLM.

vLLM is a stand-in here; where vLLM is installed, all of it is asked of that, too.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from models import vllm as stand_in
from models.tiny import save_tiny_llama
from tunesmith.domain.answers import Chosen, Finish, Sampling
from tunesmith.inference.engine import Engine, Listener, Text
from tunesmith.inference.factors import Adapter
from tunesmith.inference.vllm_engine import Adapters, Library, VllmEngine, library
from unit.inference.test_engine import Heard, alone

LONGEST = 200
GREEDY = Sampling(temperature=0, max_tokens=12)
PROMPT = [5, 9, 2, 77]
REAL = importlib.util.find_spec("vllm") is not None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base") / "llama"
    save_tiny_llama(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    for number, scaled in enumerate((False, True)):
        torch.manual_seed(number)
        get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder),
            LoraConfig(
                task_type="CAUSAL_LM",
                r=4 - 2 * number,
                lora_alpha=16,
                use_rslora=scaled,
                target_modules="all-linear",
                init_lora_weights=False,
            ),
        ).save_pretrained(root / str(number))
    return [root / "0", root / "1"]


class Stage(ABC):
    """An engine to test."""

    engine: Engine | VllmEngine

    @abstractmethod
    def put(self, number: int, adapter: Path) -> None:
        """Let texts with `number` have `adapter`."""

    def ask(self, prompt: list[int], *, most: int = 10_000, **fields: Any) -> Heard:
        return self.say(prompt, most=most, **fields)[0]

    def say(self, prompt: list[int], *, most: int = 10_000, **fields: Any) -> tuple[Heard, Text]:
        heard = Heard(most=most)
        listener = Listener(heard.say, heard.end.put, heard.end.put)
        text = Text(tuple(prompt), sampling=GREEDY, ends=frozenset(), listener=listener)
        text = dataclasses.replace(text, **fields)
        self.engine.say(text)
        return heard, text


class OnProcessors(Stage):
    def __init__(self, folder: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder)
        self.engine: Engine = Engine(model, slots=3, longest=LONGEST)

    def put(self, number: int, adapter: Path) -> None:
        read = Adapter.read(adapter, dtype=torch.float32)
        self.engine.between(partial(self.engine.factors.put, number, read))


class ThroughVllm(Stage):
    def __init__(self, folder: Path, vllm: Library) -> None:
        self.engine: VllmEngine = VllmEngine(folder, vllm=vllm, adapters=Adapters())

    def put(self, number: int, adapter: Path) -> None:
        self.engine.put(number, adapter)


class Contract:
    """The tests; a subclass gives the fixture `stage`."""

    def test_texts_are_continued_as_each_would_be_alone(self, stage: Stage, folder: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(folder)
        asked = [[n + 1, n * 7, 3] for n in range(5)]

        heard = [stage.ask(prompt) for prompt in asked]

        assert [one.tokens for one in heard] == [alone(model, prompt) for prompt in asked]
        assert {one.ending() for one in heard} == {Finish.LENGTH}

    def test_texts_with_different_adapters_answer_together_as_peft_does(
        self, stage: Stage, folder: Path, adapters: list[Path]
    ) -> None:
        for number, adapter in enumerate(adapters, start=1):
            stage.put(number, adapter)

        heard = [stage.ask(PROMPT, adapter=number) for number in (1, None, 2, 1)]

        model = AutoModelForCausalLM.from_pretrained(folder)
        plain = alone(model, PROMPT)
        tuned = [
            alone(
                PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapter),
                PROMPT,
            )
            for adapter in adapters
        ]
        assert [one.tokens for one in heard] == [tuned[0], plain, tuned[1], tuned[0]]
        assert plain not in tuned

    def test_an_end_token_ends_a_text_and_is_told_to_nobody(
        self, stage: Stage, folder: Path
    ) -> None:
        said = alone(AutoModelForCausalLM.from_pretrained(folder), PROMPT)

        heard = stage.ask(PROMPT, ends=frozenset({said[4]}))

        assert heard.tokens == said[: said.index(said[4])]
        assert heard.ending() is Finish.STOP

    def test_who_has_heard_enough_ends_a_text(self, stage: Stage) -> None:
        heard = stage.ask(PROMPT, most=3)

        assert len(heard.tokens) == 3
        assert heard.ending() is Finish.STOP

    def test_a_cancelled_text_is_told_nothing_more(self, stage: Stage) -> None:
        heard, text = stage.say(PROMPT, sampling=Sampling(temperature=0))
        stage.engine.cancel(text)

        after = stage.ask(PROMPT, sampling=Sampling(temperature=0, max_tokens=2))

        assert len(after.tokens) == 2
        assert heard.end.empty()

    def test_a_text_ends_where_the_context_does(self, stage: Stage) -> None:
        prompt = [5] * (stage.engine.longest - 4)
        heard = stage.ask(prompt, sampling=Sampling(temperature=0))

        assert len(heard.tokens) == 4
        assert heard.ending() is Finish.LENGTH

    def test_a_prompt_that_leaves_no_room_is_refused(self, stage: Stage) -> None:
        with pytest.raises(ValueError, match="are taken"):
            stage.ask([5] * stage.engine.longest)

    def test_the_same_seed_says_the_same_and_another_something_else(self, stage: Stage) -> None:
        def said(seed: int) -> list[int]:
            drawn = Sampling(temperature=1.5, top_p=0.9, seed=seed, max_tokens=20)
            return stage.ask(PROMPT, sampling=drawn).tokens

        assert said(1) == said(1)
        assert said(1) != said(2)

    @pytest.mark.parametrize("most", [0, 3])
    def test_log_probabilities_are_those_of_the_model(
        self, stage: Stage, folder: Path, most: int
    ) -> None:
        with torch.no_grad():
            model = AutoModelForCausalLM.from_pretrained(folder)
            logprobs = torch.log_softmax(model(torch.tensor([PROMPT])).logits[0, -1], dim=-1)
        best, ids = logprobs.topk(3)
        # What changes the choice changes nothing of them.
        forced = Sampling(temperature=0.5, max_tokens=1, logprobs=most, logit_bias={7: 100.0})

        (chosen,) = _heard_all(stage.ask(PROMPT, sampling=forced))

        assert chosen.token == 7
        assert chosen.logprob == pytest.approx(float(logprobs[7]), abs=1e-4)
        assert [each.token for each in chosen.likeliest] == ids.tolist()[:most]
        likely = [each.logprob for each in chosen.likeliest]
        assert likely == pytest.approx(best.tolist()[:most], abs=1e-4)

    def test_what_goes_wrong_is_told_to_who_asked_and_the_next_is_answered(
        self, stage: Stage
    ) -> None:
        wrong = stage.ask([10_000])
        assert isinstance(wrong.ending(), Exception)

        assert len(stage.ask(PROMPT).tokens) == 12

    def test_closing_tells_texts_that_are_not_over_and_takes_no_more(self, stage: Stage) -> None:
        heard = stage.ask(PROMPT, sampling=Sampling(temperature=0))
        stage.engine.close()

        assert isinstance(heard.ending(), Exception | Finish)
        with pytest.raises(ValueError, match="out of memory"):
            stage.ask(PROMPT)


def _heard_all(heard: Heard) -> list[Chosen]:
    assert heard.tokens
    return list(heard.chosen)


class TestOnProcessors(Contract):
    @pytest.fixture
    def stage(self, folder: Path) -> Iterator[Stage]:
        stage = OnProcessors(folder)
        yield stage
        stage.engine.close()


class TestThroughVllmsStandIn(Contract):
    @pytest.fixture
    def stage(self, folder: Path) -> Iterator[Stage]:
        stand_in.Llm.made.clear()
        stage = ThroughVllm(folder, stand_in.library())
        yield stage
        if not stand_in.Llm.made[0].closed:
            stage.engine.close()

    def test_nobody_waits_for_a_cancelled_text(self, stage: Stage) -> None:
        _, text = stage.say(PROMPT, sampling=Sampling(temperature=0))
        first = stage.ask(PROMPT, sampling=Sampling(temperature=0, max_tokens=1))
        assert first.tokens

        stage.engine.cancel(text)

        assert stage.ask(PROMPT).tokens
        (vllm,) = stand_in.Llm.made
        assert vllm.aborted == ["1"]

    def test_vllm_is_told_our_ends_and_none_of_its_own(self, stage: Stage) -> None:
        assert stage.ask(PROMPT, ends=frozenset({250, 3})).tokens

        (vllm,) = stand_in.Llm.made
        ((params, lora),) = vllm.asked
        assert (params.stop_token_ids, params.ignore_eos, params.detokenize) == (
            [3, 250],
            True,
            False,
        )
        assert lora is None
        assert vllm.arguments.skip_tokenizer_init
        assert vllm.arguments.generation_config == "vllm"

    def test_an_adapter_that_vllm_refuses_ends_no_text(
        self, stage: ThroughVllm, folder: Path, tmp_path: Path
    ) -> None:
        large = LoraConfig(task_type="CAUSAL_LM", r=65, target_modules=["q_proj"])
        get_peft_model(AutoModelForCausalLM.from_pretrained(folder), large).save_pretrained(
            tmp_path
        )

        with pytest.raises(RuntimeError, match="rank 65"):
            stage.put(1, tmp_path)

        assert stage.ask(PROMPT).tokens

    def test_an_engine_whose_process_ended_is_broken(self, stage: ThroughVllm) -> None:
        assert not stage.engine.broken
        (vllm,) = stand_in.Llm.made
        vllm.errored = True

        assert isinstance(stage.ask(PROMPT).ending(), RuntimeError)
        assert stage.engine.broken

    def test_what_does_not_start_says_why(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="no such model"):
            VllmEngine(tmp_path, vllm=stand_in.library(), adapters=Adapters())


@pytest.mark.skipif(not REAL, reason="vLLM is not installed")
class TestThroughVllm(Contract):
    @pytest.fixture(scope="class")
    def shared(self, folder: Path) -> Iterator[Stage]:
        vllm = library()
        # As exact as what it is compared with, and started as soon as may be.
        exact = partial(vllm.arguments, dtype="float32", enforce_eager=True)
        stage = ThroughVllm(folder, dataclasses.replace(vllm, arguments=exact))
        yield stage
        if not stage.engine._closing:
            stage.engine.close()

    @pytest.fixture
    def stage(self, shared: Stage) -> Stage:
        return shared

    def test_the_stand_in_takes_what_vllm_takes(self) -> None:
        vllm = library()
        for ours, theirs in (
            (stand_in.Arguments, vllm.arguments),
            (stand_in.Params, vllm.sampling),
            (stand_in.Lora, vllm.adapter),
            (stand_in.Llm.generate, vllm.engine.generate),
            (stand_in.Llm.add_lora, vllm.engine.add_lora),
            (stand_in.Llm.remove_lora, vllm.engine.remove_lora),
        ):
            known = inspect.signature(theirs).parameters
            assert set(inspect.signature(ours).parameters) <= set(known), ours
