"""Models of each family answer by the engine as by themselves, with an adapter and without."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from models.families import FAMILIES, adapted, save_family
from tunesmith.domain.answers import Sampling
from tunesmith.inference.engine import Engine
from tunesmith.inference.factors import Adapter
from unit.inference.test_engine import alone, ask, prompts


@pytest.mark.parametrize("name", FAMILIES)
def test_each_text_is_continued_as_it_would_be_alone(name: str, tmp_path: Path) -> None:
    torch.set_num_threads(1)
    save_family(name, tmp_path / "base")
    adapted(AutoModelForCausalLM.from_pretrained(tmp_path / "base")).save_pretrained(
        tmp_path / "adapter"
    )
    engine = Engine(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), slots=3, longest=64)
    engine.factors.put(0, Adapter.read(tmp_path / "adapter", dtype=torch.float32))
    places = [None, 0, 0, None]
    greedy = Sampling(temperature=0, max_tokens=12)
    asked = prompts(len(places))

    heard = [
        ask(engine, prompt, adapter=place, sampling=greedy)
        for prompt, place in zip(asked, places, strict=True)
    ]

    for one, prompt, place in zip(heard, asked, places, strict=True):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        tuned = model if place is None else PeftModel.from_pretrained(model, tmp_path / "adapter")
        assert one.tokens == alone(tuned, prompt)
    engine.close()
