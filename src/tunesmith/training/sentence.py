"""The files by which sentence-transformers loads a result with the pooling that it was tuned with.

They are in the form that its version 2 wrote, which all later ones read.
"""

from __future__ import annotations

import json

from transformers import PretrainedConfig, PreTrainedTokenizerBase

from tunesmith.dataset.passages import longest_text
from tunesmith.domain.spec import Method, RankingSpec, TrainSpec


def files_beside(
    spec: TrainSpec, tokenizer: PreTrainedTokenizerBase, *, config: PretrainedConfig
) -> dict[str, str]:
    """Return the texts that go beside the weights, by their paths; none where none are needed.

    `tokenizer`, which goes beside them too, is told the greatest length; `config` is the
    base model's.
    """
    ranking = spec.ranking
    if ranking is None:
        return {}
    longest = longest_text(ranking, method=spec.method)
    tokenizer.model_max_length = longest
    if spec.method is Method.RERANK:
        return {}
    files = {
        "modules.json": _modules(ranking),
        "sentence_bert_config.json": {"max_seq_length": longest, "do_lower_case": False},
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.get_text_config().hidden_size,
            "pooling_mode_cls_token": ranking.pooling == "cls",
            "pooling_mode_mean_tokens": ranking.pooling == "mean",
        },
        "config_sentence_transformers.json": {
            "prompts": {
                "query": ranking.query_instruction,
                "document": ranking.passage_instruction,
            },
            "similarity_fn_name": "cosine" if ranking.normalized else "dot",
        },
    }
    return {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}


def _modules(ranking: RankingSpec) -> list[dict[str, object]]:
    kinds = ["Transformer", "Pooling", *(["Normalize"] if ranking.normalized else [])]
    return [
        {
            "idx": at,
            "name": str(at),
            "path": f"{at}_{kind}" if at else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for at, kind in enumerate(kinds)
    ]
