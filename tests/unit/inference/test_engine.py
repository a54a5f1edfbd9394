"""Many texts are continued at once, each as the model alone would continue it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, PreTrainedModel

from models.tiny import save_tiny_llama
from tunesmith.domain.answers import Chosen, Finish, Sampling
from tunesmith.inference.asking import Continuing
from tunesmith.inference.engine import Engine, Listener, Text, _Going
from tunesmith.inference.factors import Adapter, NotPlainError
from tunesmith.inference.sampling import Sampler
from tunesmith.inference.slots import Pass

LONGEST = 200
GREEDY = Sampling(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("base") / "llama"
    save_tiny_llama(folder)
    return folder


@pytest.fixture(scope="module")
def adapters(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Adapters of two ranks and kinds, each of which changes what the model says."""
    root = tmp_path_factory.mktemp("adapters")
    kinds: list[dict[str, Any]] = [
        {"r": 4, "target_modules": "all-linear"},
        {"r": 2, "target_modules": ["q_proj", "down_proj"], "use_rslora": True},
    ]
    for number, kind in enumerate(kinds):
        torch.manual_seed(number)
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(folder),
            LoraConfig(task_type="CAUSAL_LM", lora_alpha=16, init_lora_weights=False, **kind),
        )
        model.save_pretrained(root / str(number))
    return [root / str(number) for number in range(len(kinds))]


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    engine = Engine(AutoModelForCausalLM.from_pretrained(folder), slots=3, longest=LONGEST)
    yield engine
    engine.close()


@dataclass
class Heard:
    """What was told of a text."""

    chosen: list[Chosen] = field(default_factory=list)
    end: queue.Queue[Finish | Exception] = field(default_factory=queue.Queue)
    most: int = 10_000

    def say(self, chosen: Chosen) -> bool:
        self.chosen.append(chosen)
        return len(self.chosen) < self.most

    @property
    def tokens(self) -> list[int]:
        """The tokens, once the text has ended."""
        self.ending()
        return [each.token for each in self.chosen]

    def ending(self) -> Finish | Exception:
        found = self.end.get(timeout=60)
        self.end.put(found)
        return found


def ask(engine: Continuing, prompt: list[int], **fields: Any) -> Heard:
    heard = Heard(most=fields.pop("most", 10_000))
    listener = Listener(heard.say, heard.end.put, heard.end.put)
    usual: dict[str, Any] = {"sampling": GREEDY, "ends": frozenset[int]()}
    engine.say(Text(tuple(prompt), listener=listener, **(usual | fields)))
    return heard


def alone(model: PreTrainedModel | PeftModel, prompt: list[int], *, tokens: int = 12) -> list[int]:
    """What transformers' own `generate` says behind `prompt`."""
    made = model.generate(
        input_ids=torch.tensor([prompt]),
        # Else it takes some tokens of the prompt for padding.
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    return [int(token) for token in made[0][len(prompt) :]]


def prompts(count: int) -> list[list[int]]:
    drawn = torch.Generator().manual_seed(1)
    return [
        torch.randint(250, (3 + 7 * (number % 4),), generator=drawn).tolist()
        for number in range(count)
    ]


def test_texts_that_come_and_go_are_continued_as_each_would_be_alone(
    engine: Engine, folder: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    asked = prompts(8)
    lengths = [3, 12, 5, 12, 1, 7, 12, 2]

    heard = [
        ask(engine, prompt, sampling=Sampling(temperature=0, max_tokens=length))
        for prompt, length in zip(asked, lengths, strict=True)
    ]

    for one, prompt, length in zip(heard, asked, lengths, strict=True):
        assert one.tokens == alone(model, prompt, tokens=length)
        assert one.ending() is Finish.LENGTH


def test_rows_with_different_adapters_answer_together_as_peft_does_with_each(
    engine: Engine, folder: Path, adapters: list[Path]
) -> None:
    for number, adapter in enumerate(adapters):
        read = Adapter.read(adapter, dtype=torch.float32)
        engine.between(partial(engine.factors.put, number, read))
    places = [0, None, 1, 1, 0, None]
    asked = prompts(len(places))

    heard = [ask(engine, prompt, adapter=at) for prompt, at in zip(asked, places, strict=True)]

    said = []
    for one, prompt, place in zip(heard, asked, places, strict=True):
        model = AutoModelForCausalLM.from_pretrained(folder)
        tuned = model if place is None else PeftModel.from_pretrained(model, adapters[place])
        said.append(one.tokens)
        assert one.tokens == alone(tuned, prompt)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert said[0] != alone(model, asked[0])
    assert said[2] != alone(model, asked[2])


def test_an_adapter_of_the_head_is_that_of_each_text(folder: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(r=2, target_modules=["q_proj", "lm_head"], init_lora_weights=False),
    )
    tuned.save_pretrained(tmp_path, save_embedding_layers=False)
    engine = Engine(AutoModelForCausalLM.from_pretrained(folder), slots=3, longest=LONGEST)
    engine.factors.put(0, Adapter.read(tmp_path, dtype=torch.float32))
    places = [0, None, 0, None]
    asked = prompts(len(places))

    heard = [ask(engine, prompt, adapter=at) for prompt, at in zip(asked, places, strict=True)]

    plain = AutoModelForCausalLM.from_pretrained(folder)
    tuned.eval()
    for one, prompt, place in zip(heard, asked, places, strict=True):
        assert one.tokens == alone(plain if place is None else tuned, prompt)
    engine.close()


def test_a_long_prompt_goes_through_in_parts(folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = torch.randint(250, (700,), generator=torch.Generator().manual_seed(3)).tolist()
    wanted = alone(model, prompt, tokens=4)
    engine = Engine(AutoModelForCausalLM.from_pretrained(folder), slots=2, longest=1000)

    heard = ask(engine, prompt, sampling=Sampling(temperature=0, max_tokens=4))

    assert heard.tokens == wanted
    engine.close()


def test_those_that_go_on_go_along_with_each_part_of_a_long_prompt(
    folder: Path, adapters: list[Path]
) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    long = torch.randint(250, (1100,), generator=torch.Generator().manual_seed(3)).tolist()
    short = prompts(3)
    wanted = [alone(model, short[0], tokens=40), alone(model, long, tokens=4)]
    tuned = PeftModel.from_pretrained(model, adapters[1])
    wanted.append(alone(tuned, short[2], tokens=40))
    engine = Engine(AutoModelForCausalLM.from_pretrained(folder), slots=3, longest=1200)
    engine.factors.put(0, Adapter.read(adapters[1], dtype=torch.float32))
    passes: list[list[int]] = []

    def watch(_: object, given: Any, kwargs: dict[str, Any]) -> None:
        passes.append([each.count * each.tokens for each in kwargs["going"].passes])

    engine._model.register_forward_pre_hook(watch, with_kwargs=True)

    def all_at_once() -> None:
        heard.append(ask(engine, short[0], sampling=Sampling(temperature=0, max_tokens=40)))
        heard.append(
            ask(engine, short[2], adapter=0, sampling=Sampling(temperature=0, max_tokens=40))
        )
        heard.append(ask(engine, long, sampling=Sampling(temperature=0, max_tokens=4)))

    heard: list[Heard] = []
    engine.between(all_at_once)

    assert [heard[0].tokens, heard[2].tokens, heard[1].tokens] == wanted
    # The first prompt alone, then each part of another with the next tokens of those before.
    assert passes[:6] == [
        [len(short[0])],
        [1, len(short[2])],
        [2, 512],
        [2, 512],
        [2, 76],
        [3],
    ]
    engine.close()


def test_an_end_token_ends_a_text_and_is_told_to_nobody(engine: Engine, folder: Path) -> None:
    prompt = prompts(1)[0]
    said = alone(AutoModelForCausalLM.from_pretrained(folder), prompt)
    end = said[4]

    heard = ask(engine, prompt, ends=frozenset({end}))

    assert heard.tokens == said[: said.index(end)]
    assert heard.ending() is Finish.STOP


def test_who_has_heard_enough_ends_a_text(engine: Engine) -> None:
    heard = ask(engine, prompts(1)[0], most=3)

    assert len(heard.tokens) == 3
    assert heard.ending() is Finish.STOP


def test_a_cancelled_text_gives_its_slot_to_the_next(engine: Engine) -> None:
    endless = Sampling(temperature=0)
    deaf = Listener(lambda _: True, lambda _: None, lambda _: None)
    long_ones = [Text((1, 2), endless, frozenset(), deaf) for _ in "abc"]
    for text in long_ones:
        engine.say(text)
    waiting = ask(engine, [3, 4], sampling=Sampling(temperature=0, max_tokens=2))
    long_ones[1].cancelled.set()

    assert len(waiting.tokens) == 2
    for text in long_ones:
        text.cancelled.set()


def test_a_text_ends_where_the_context_does(engine: Engine) -> None:
    heard = ask(engine, [5] * (LONGEST - 4), sampling=Sampling(temperature=0))

    assert len(heard.tokens) == 4
    assert heard.ending() is Finish.LENGTH


@pytest.mark.parametrize("length", [0, LONGEST])
def test_a_prompt_that_leaves_no_room_is_refused(engine: Engine, length: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 199 are taken"):
        ask(engine, [5] * length)


def test_the_same_seed_says_the_same_and_another_something_else(engine: Engine) -> None:
    def said(seed: int) -> list[int]:
        sampling = Sampling(temperature=1.5, top_p=0.9, seed=seed, max_tokens=20)
        return ask(engine, [1, 2, 3], sampling=sampling).tokens

    assert said(1) == said(1)
    assert said(1) != said(2)


def test_log_probabilities_are_those_of_the_model(engine: Engine, folder: Path) -> None:
    prompt = prompts(1)[0]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt])).logits[0, -1]
    expected, ids = torch.log_softmax(logits, dim=-1).topk(3)

    heard = ask(engine, prompt, sampling=Sampling(temperature=0, max_tokens=1, logprobs=3))

    assert heard.tokens == [ids[0]]
    (chosen,) = heard.chosen
    assert chosen.logprob == pytest.approx(expected[0].item(), abs=1e-5)
    assert [each.token for each in chosen.likeliest] == ids.tolist()
    assert [each.logprob for each in chosen.likeliest] == pytest.approx(expected.tolist(), abs=1e-5)


def test_what_goes_wrong_is_told_to_who_asked_and_the_next_is_answered(engine: Engine) -> None:
    wrong = ask(engine, [10_000], sampling=Sampling(temperature=0, max_tokens=1))
    assert isinstance(wrong.ending(), Exception)

    assert len(ask(engine, [1], sampling=Sampling(temperature=0, max_tokens=1)).tokens) == 1


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"target_modules": ["embed_tokens"]}, "embed_tokens"),
    ],
)
def test_an_adapter_that_is_more_than_factors_is_left_to_be_merged(
    folder: Path, tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    kind = {"r": 2, "target_modules": ["q_proj"], "task_type": "CAUSAL_LM"} | changes
    get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(**kind)
    ).save_pretrained(tmp_path / "adapter")

    with pytest.raises(NotPlainError, match=why):
        Adapter.read(tmp_path / "adapter", dtype=torch.float32)


def test_who_has_heard_the_end_of_a_text_does_not_hear_that_it_failed(engine: Engine) -> None:
    ends: list[object] = []
    failed: list[object] = []

    def refuse(chosen: Chosen) -> bool:
        raise RuntimeError(f"{chosen.token} cannot be heard")

    pleased = Listener(lambda _: True, ends.append, ends.append)
    one = Text((1,), Sampling(max_tokens=1), frozenset(), pleased)
    other = Text((2,), GREEDY, frozenset(), Listener(refuse, failed.append, failed.append))
    first = Pass(engine._slots, 0, 2, 1)
    rows = [_Going(text, Sampler(text.sampling), given=1) for text in (one, other)]

    def tell() -> None:
        engine._going.extend(rows)
        first.done()
        with pytest.raises(RuntimeError, match="cannot be heard"):
            engine._tell(rows, torch.zeros(2, 8))
        engine._fail(RuntimeError("broken"))

    engine.between(tell)

    assert ends == [Finish.LENGTH]
    assert [str(error) for error in failed] == ["broken"]


def test_a_closed_engine_takes_no_text(folder: Path) -> None:
    engine = Engine(AutoModelForCausalLM.from_pretrained(folder), slots=1, longest=LONGEST)
    engine.close()

    with pytest.raises(ValueError, match="out of memory"):
        ask(engine, [1])
