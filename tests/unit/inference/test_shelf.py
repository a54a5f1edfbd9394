"""Models and adapters are in memory when they are asked, and go when others need their room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from models.families import save_family
from models.tiny import save_tiny_llama
from tunesmith.artifacts.local import LocalArtifacts
from tunesmith.domain.answers import Answerer, Sampling
from tunesmith.domain.errors import BusyError, ModelUnavailableError
from tunesmith.domain.models import CatalogueEntry, FolderSource, WholeModel
from tunesmith.inference.shelf import Ready, Shelf, Sizes
from unit.inference.test_engine import Heard, ask

PROMPT = [1, 2, 3]
SHORT = Sampling(temperature=0, max_tokens=6)


class Library:
    """A data folder with two base models and what is made of them."""

    def __init__(self, root: Path) -> None:
        self.artifacts = LocalArtifacts(root / "data")
        self.root = root
        save_tiny_llama(root / "one")
        save_family("qwen2", root / "two")

    def base(self, name: str = "one") -> Answerer:
        entry = CatalogueEntry(name=name, source=FolderSource(path=self.root / name))
        return Answerer(base=entry)

    def adapted(self, name: str, **changes: Any) -> Answerer:
        """A model with an adapter that changes what it says."""
        torch.manual_seed(sum(map(ord, name)))
        kind = {"r": 2, "target_modules": "all-linear", "init_lora_weights": False} | changes
        config = LoraConfig(task_type="CAUSAL_LM", **kind)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(self.root / "one"), config)
        model.save_pretrained(self.root / name)
        self.artifacts.put_folder(f"results/{name}", self.root / name)
        return self.base().model_copy(update={"adapter": f"results/{name}"})


@pytest.fixture
def library(tmp_path: Path) -> Library:
    torch.set_num_threads(1)
    return Library(tmp_path)


def said(shelf: Shelf, answerer: Answerer) -> list[int]:
    with shelf.asking(answerer) as ready:
        return asked(ready).tokens


def asked(ready: Ready) -> Heard:
    return ask(ready.engine, PROMPT, adapter=ready.adapter, sampling=SHORT)


def test_a_model_is_loaded_once_and_its_adapters_beside_it(library: Library) -> None:
    shelf = Shelf(library.artifacts)
    adapters = [library.adapted(name) for name in ("a", "b")]

    with shelf.asking(library.base()) as plain, shelf.asking(adapters[0]) as tuned:
        assert plain.engine is tuned.engine
        assert (plain.adapter, tuned.adapter) == (None, 0)
    answers = [said(shelf, answerer) for answerer in (library.base(), *adapters)]

    assert len({tuple(answer) for answer in answers}) == 3
    assert [said(shelf, answerer) for answerer in (library.base(), *adapters)] == answers
    shelf.close()


def test_the_adapter_that_nobody_asked_for_longest_makes_room(library: Library) -> None:
    shelf = Shelf(library.artifacts, Sizes(adapters=2))
    names = ["a", "b", "c"]
    first = [said(shelf, library.adapted(name)) for name in names]

    again = [said(shelf, library.adapted(name)) for name in reversed(names)]

    assert again == first[::-1]
    with (
        shelf.asking(library.adapted("a")),
        shelf.asking(library.adapted("b")),
        pytest.raises(BusyError, match="adapters"),
        shelf.asking(library.adapted("c")),
    ):
        pass
    shelf.close()


def test_the_model_that_nobody_asked_for_longest_makes_room(library: Library) -> None:
    shelf = Shelf(library.artifacts, Sizes(models=1))
    one = said(shelf, library.base("one"))

    assert said(shelf, library.base("two")) != one
    assert said(shelf, library.base("one")) == one
    with (
        shelf.asking(library.base("one")),
        pytest.raises(BusyError, match="models"),
        shelf.asking(library.base("two")),
    ):
        pass
    shelf.close()


def test_an_adapter_that_is_more_than_factors_is_a_model_of_its_own(library: Library) -> None:
    shelf = Shelf(library.artifacts)
    scaled = library.adapted("dora", use_dora=True)

    with shelf.asking(library.base()) as plain, shelf.asking(scaled) as merged:
        assert merged.engine is not plain.engine
        assert merged.adapter is None
        assert asked(merged).tokens != asked(plain).tokens
    shelf.close()


def test_a_model_all_of_whose_weights_were_trained_stands_in_the_base_models_place(
    library: Library,
) -> None:
    shelf = Shelf(library.artifacts)
    save_family("qwen2", library.root / "whole")
    library.artifacts.put_folder("results/whole", library.root / "whole")
    whole = WholeModel(name="ft:whole", key="results/whole")

    tuned = said(shelf, library.base().model_copy(update={"whole": whole}))

    assert tuned == said(shelf, library.base("two"))
    shelf.close()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adapter": "results/gone"}, "adapter is no longer there"),
        ({"whole": WholeModel(name="ft:gone", key="results/gone")}, "'ft:gone'"),
    ],
)
def test_what_was_deleted_is_told(library: Library, changes: dict[str, Any], words: str) -> None:
    shelf = Shelf(library.artifacts)
    gone = library.base().model_copy(update=changes)

    with pytest.raises(ModelUnavailableError, match=words), shelf.asking(gone):
        pass

    assert len(said(shelf, library.base())) == 6
    shelf.close()
