"""How fast a training file is checked, beside `datasets` and beside `tokenizers` alone.

Structure: `datasets.load_dataset("json", …)` with an empty cache and a plain check of each row's
keys, roles, their order and texts, against the whole report on the same chat file, which also looks
for duplicates, broken text, secrets and personal data. Tokens:
`encode_batch` of `tokenizers`, with all processors, over texts that are rendered beforehand,
against the report with tokens of the file that they come from. Each run is a process of its own, in
turns; figures are medians. Prints them, and the most memory that our processes held together.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tunesmith.cli.tokenizers import TokenizerFolders
from tunesmith.dataset.pool import Workers
from tunesmith.dataset.tokenizer import FolderTokenizer
from tunesmith.dataset.validation import Sources, validate
from tunesmith.domain.validation import ValidationOptions
from tunesmith.settings import DEFAULT_CATALOGUE

_WORDS = (
    "weather",
    "please",
    "number",
    "answer",
    "question",
    "because",
    "table",
    "the",
    "of",
    "is",
)
_ROW_KEYS = {"messages", "tools", "parallel_tool_calls", "functions"}
_MESSAGE_KEYS = {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call"}
_ROLES, _FIRST = {"system", "developer", "user", "assistant", "tool"}, {"system", "developer"}
_BATCH = 1000
"""Texts that `tokenizers` is given at once."""


def main() -> dict[str, float]:
    """Write the files, run all in turns, print the figures and return them."""
    arguments = _arguments()
    if arguments.contender:
        print(json.dumps(_CONTENDERS[arguments.contender](arguments.file, arguments.tokenizer)))
        return {}
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        large, small = Path(folder) / "large.jsonl", Path(folder) / "small.jsonl"
        _write(large, arguments.megabytes)
        _write(small, arguments.token_megabytes)
        tokenizer = TokenizerFolders(str(Path(folder) / "data")).folder(DEFAULT_CATALOGUE[0])
        turns = [("ours", large), ("datasets", large), ("tokens", small), ("tokenizers", small)]
        spans: dict[str, list[float]] = {name: [] for name, _ in turns}
        for _ in range(arguments.rounds):
            for name, file in turns:
                spans[name].append(_seconds(_started(name, file, tokenizer=tokenizer)))
                print(f"{name:10} {spans[name][-1]:7.2f} s")
        # Not in the rounds: to ask how much memory is shared takes time from who is asked.
        peak = _megabytes(_started("ours", large, tokenizer=tokenizer))
    medians = {name: statistics.median(times) for name, times in spans.items()}
    figures = {
        "validate_vs_datasets": medians["datasets"] / medians["ours"],
        "tokens_vs_tokenizers": medians["tokenizers"] / medians["tokens"],
        "validate_peak_mb": peak,
    }
    print(json.dumps(figures))
    return figures


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500, help="size of the checked file")
    parser.add_argument("--token-megabytes", type=int, default=50, help="of the tokenized one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are written")
    parser.add_argument("--contender", choices=("ours", "datasets", "tokens", "tokenizers"))
    parser.add_argument("--file", type=Path)
    parser.add_argument("--tokenizer", type=Path)
    return parser.parse_args()


def _write(path: Path, megabytes: int) -> None:
    drawn = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        number = 0
        while file.tell() < megabytes * 1_000_000:
            number += 1
            turns = [
                ("system", "You are a helpful assistant."),
                ("user", f"{_text(drawn, 40)} And {number}?"),
                ("assistant", _text(drawn, 110)),
            ]
            messages = [{"role": role, "content": content} for role, content in turns]
            file.write(json.dumps({"messages": messages}) + "\n")


def _text(drawn: random.Random, words: int) -> str:
    return " ".join(drawn.choices(_WORDS, k=words)).capitalize() + "."


def _started(name: str, file: Path, *, tokenizer: Path) -> subprocess.Popen[bytes]:
    """Start a process in which the contender runs."""
    command = [sys.executable, __file__, "--contender", name, "--file", str(file)]
    command += ["--tokenizer", str(tokenizer)]
    environment = {**os.environ, "HF_HOME": str(file.parent), "HF_DATASETS_OFFLINE": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)


def _seconds(contender: subprocess.Popen[bytes]) -> float:
    answer, _ = contender.communicate()
    assert contender.returncode == 0, f"the contender ended with {contender.returncode}"
    return float(answer.splitlines()[-1])


def _megabytes(contender: subprocess.Popen[bytes]) -> float:
    """Return the most megabytes that the process and its children held together."""
    peak = 0.0
    while contender.poll() is None:
        try:
            process = psutil.Process(contender.pid)
            family = [process, *process.children(recursive=True)]
            # Each page that several of them share is divided among them.
            peak = max(peak, sum(each.memory_full_info().pss for each in family) / 1e6)
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.1)
    _seconds(contender)
    return peak


def _ours(file: Path, _: Path) -> float:
    return _timed_report(file, None)


def _tokens(file: Path, tokenizer: Path) -> float:
    return _timed_report(file, FolderTokenizer(tokenizer))


def _timed_report(file: Path, tokenizer: FolderTokenizer | None) -> float:
    begun = time.perf_counter()
    with file.open("rb") as stream:
        report = validate(
            Sources(stream),
            ValidationOptions(),
            tokenizer=tokenizer,
            workers=Workers(os.cpu_count() or 1, fork=True),
        )
    assert report.ok
    return time.perf_counter() - begun


def _datasets(file: Path, _: Path) -> float:
    import datasets  # noqa: PLC0415  only this contender has it in memory

    datasets.disable_progress_bars()
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=file.parent) as cache:
        rows = datasets.load_dataset(
            "json", data_files=str(file), split="train", cache_dir=cache, keep_in_memory=False
        )
        assert all(map(_is_sound, rows))
        return time.perf_counter() - begun


def _is_sound(row: dict[str, Any]) -> bool:
    """Check the structure that a chat row has by OpenAI's guide; not its content, as ours does."""
    messages = row["messages"]
    if not row.keys() <= _ROW_KEYS or not isinstance(messages, list) or not messages:
        return False
    for at, message in enumerate(messages):
        if not isinstance(message, dict) or not message.keys() <= _MESSAGE_KEYS:
            return False
        role, content = message.get("role"), message.get("content")
        if role not in _ROLES or (at and role in _FIRST):
            return False
        if not isinstance(content, str) or not content.strip():
            return False
        if message.get("weight", 1) not in (0, 1):
            return False
    return bool(messages[-1]["role"] == "assistant")


def _tokenizers(file: Path, tokenizer: Path) -> float:
    from tokenizers import Tokenizer  # noqa: PLC0415  as it stands alone

    backend = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    texts = list(_texts(file, FolderTokenizer(tokenizer)))
    begun = time.perf_counter()
    for at in range(0, len(texts), _BATCH):
        backend.encode_batch(texts[at : at + _BATCH], add_special_tokens=False)
    return time.perf_counter() - begun


def _texts(file: Path, tokenizer: FolderTokenizer) -> Iterator[str]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            yield tokenizer.apply_chat_template(
                json.loads(line)["messages"],
                tools=None,
                tokenize=False,
                add_generation_prompt=False,
            )


_CONTENDERS = {
    "ours": _ours,
    "datasets": _datasets,
    "tokens": _tokens,
    "tokenizers": _tokenizers,
}

if __name__ == "__main__":
    main()
