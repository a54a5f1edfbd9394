"""Examples of what concerns exports, for the API's description."""

from __future__ import annotations

from typing import Any

from tunesmith.api.job_examples import JOB_ID, NOW, TUNED
from tunesmith.domain.exports import (
    Comparison,
    Export,
    ExportFile,
    ExportFormat,
    ExportStatus,
    Parity,
    Quantization,
)
from tunesmith.domain.values import Page
from tunesmith.protocol.exports import ExportDeleted, ExportList, ExportObject
from tunesmith.protocol.wire import Wire

EXPORT_REQUESTS: dict[str, dict[str, Any]] = {
    "For transformers": {"model": TUNED, "format": "merged"},
    "For llama.cpp and Ollama, in 8 bits": {
        "model": TUNED,
        "format": "gguf",
        "quantization": "q8_0",
    },
    "The adapter, to the hub as well": {
        "model": TUNED,
        "format": "adapter",
        "push_to": "hub:acme/support",
    },
}
"""Bodies that export a model."""


def export_answers() -> list[Wire]:
    """Return an example of each answer."""
    shown = Comparison(
        side="gguf",
        read_by="llama.cpp",
        bound=0.5,
        largest_difference=0.0734,
        mean_difference=0.0106,
        near_ties=1,
    )
    export = Export(
        id="exp_Yc6RkP1sWd9n4ZlX0vT8bQm2",
        created_at=NOW + 700,
        status=ExportStatus.SUCCEEDED,
        model=TUNED,
        job_id=JOB_ID,
        key="",
        format=ExportFormat.GGUF,
        quantization=Quantization.Q8_0,
        progress=1.0,
        files=(
            ExportFile(name="Modelfile", bytes=412, sha256="9f86d0…"),
            ExportFile(name="model.gguf", bytes=144_811_232, sha256="60303a…"),
        ),
        parity=Parity(measure="log_probability", prompts=8, tokens=190, sides=(shown,)),
        finished_at=NOW + 760,
    )
    return [
        ExportObject.to_wire(export),
        ExportList.to_wire(Page(items=(export,), has_more=False)),
        ExportDeleted(id=export.id),
    ]
