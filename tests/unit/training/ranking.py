"""Queries with passages, an encoder to tune on them, and what a test takes of a run."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from tempfile import gettempdir
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoTokenizer

from tunesmith.domain.models import CatalogueEntry, FolderSource
from tunesmith.domain.spec import LoraSpec, Method, RankingSpec
from tunesmith.training.objective import for_batch
from tunesmith.training.reading import read_file

if TYPE_CHECKING:
    from tunesmith.training.examples import Examples, MicroBatch
    from tunesmith.training.network import Network
    from unit.training.conftest import Bench

LORA = LoraSpec(rank=4, alpha=8, dropout=0.1)


def ranking_rows(count: int) -> list[dict[str, Any]]:
    """Rows whose texts have many lengths, with 0 to 3 negatives, but for the first at least 1."""
    return [
        {
            "query": f"where is {'the ' * (n % 3)}{n}",
            "pos": [f"{n} is {'right ' * (1 + n % 4)}here", f"here is {n}"][: 1 + n % 2],
            "neg": [f"{other}{n} is elsewhere" for other in range(3)][: max(n % 4, int(n == 0))],
        }
        for n in range(count)
    ]


def asked(folder: Path, method: Method, *, lora: LoraSpec | None = LORA, **ranking: Any) -> Any:
    """Return the fields of a spec that tunes the encoder in `folder` by `method`."""
    changed = RankingSpec(**({"group_size": 3, "temperature": 0.1} | ranking))
    entry = CatalogueEntry(name="tiny-bert", source=FolderSource(path=folder))
    return {"base_model": entry, "method": method, "ranking": changed, "lora": lora}


def read_rows(bench: Bench, rows: list[dict[str, Any]], fields: dict[str, Any]) -> Examples:
    """Return `rows` as a run with `fields` would read them."""
    spec = bench.write_spec(rows, **fields)
    tokenizer = AutoTokenizer.from_pretrained(spec.base_model.source.path)  # type: ignore[union-attr]
    content = bench.artifacts.get(spec.training_file.key)
    return read_file(
        BytesIO(content), tokenizer, spec=spec, limit=None, folder=Path(gettempdir())
    ).examples


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the gradient of each weight that has one, fp64, and forget them."""
    found = {
        name: weight.grad.double().clone()
        for name, weight in model.named_parameters()
        if weight.grad is not None
    }
    model.zero_grad()
    return found


def learn(objective: Any, network: Network, batches: list[MicroBatch], *, seed: int) -> float:
    """Return the mean loss over the whole batch, as the loop takes it, leaving its gradient."""
    torch.manual_seed(seed)
    measuring = for_batch(objective, network, batches=batches)
    count, loss = sum(measuring.count(batch) for batch in batches), 0.0
    for batch in batches:
        measured = measuring.measure(network, batch)
        torch.autograd.backward(measured.loss / count)
        loss += measured.loss.item() / count
    return loss
