"""Where the tokenizers of base models are kept, apart from the weights."""

from __future__ import annotations

import hashlib
import re

from tunesmith.domain.models import CatalogueEntry


def tokenizer_key(entry: CatalogueEntry) -> str:
    """Return the prefix under which `artifacts` holds the tokenizer of `entry`.

    Another source under the same name has another prefix.
    """
    digest = hashlib.sha256(entry.source.model_dump_json().encode()).hexdigest()
    return f"tokenizers/{re.sub(r'[^A-Za-z0-9._-]', '-', entry.name)}-{digest[:8]}"
