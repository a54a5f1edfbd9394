"""A job's receipt is downloaded in three forms, and shows a line as the model sees it."""

from __future__ import annotations

import io
import json
from typing import Any

import openai
import pyarrow as pa
import pytest
from pyarrow import parquet
from starlette.testclient import TestClient

from tunesmith.artifacts.receipts import SCHEMA

SUMS = {"job_id": "ftjob-1", "trained_tokens": None}


def row(line: int, **fields: Any) -> dict[str, Any]:
    used = {
        "text": 1,
        "split": "train",
        "tokens": 3,
        "tokens_learnt": 1,
        "cut": False,
        "end_learnt": True,
        "token_ids": [7, 8, 9],
        "pieces": ["Say", " a", "</s>"],
        "learnt": [False, False, True],
    }
    return {"file": "training", "line": line, "element": 0, **used, **fields}


ASIDE = dict.fromkeys(row(1), None) | {
    "file": "training",
    "line": 2,
    "element": 0,
    "text": 0,
    "rule": "empty-answer",
    "reason": "The answer is empty.",
}
ROWS = [
    row(1),
    ASIDE,
    row(3, side="chosen"),
    row(3, text=2, side="rejected", learnt=[True, True, True]),
    row(4, element=1),
    row(4, element=2, token_ids=[1, 1, 1]),
    row(1, file="validation", split="held_out"),
]


@pytest.fixture
def job_id(client: openai.OpenAI, world: Any) -> str:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="smollm2-135m-instruct", training_file=file.id)
    world.run(job.id)
    table = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(ROWS, schema=SCHEMA), table)
    world.artifacts.put(f"runs/{job.id}/receipt.json", json.dumps(SUMS).encode())
    world.artifacts.put(f"runs/{job.id}/receipt.jsonl", b'{"line":1}\n{"line":2}\n')
    world.artifacts.put(f"runs/{job.id}/receipt.parquet", table.getvalue())
    return job.id


def path(job_id: str) -> str:
    return f"/v1/fine_tuning/jobs/{job_id}/receipt"


def test_the_sums_are_the_receipt(http: TestClient, job_id: str) -> None:
    answer = http.get(path(job_id))
    assert answer.json() == SUMS
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    ("query", "accept"), [("?format=jsonl", "*/*"), ("", "application/x-ndjson")]
)
def test_the_lines_are_downloaded_by_format_or_accept(
    http: TestClient, job_id: str, query: str, accept: str
) -> None:
    answer = http.get(f"{path(job_id)}{query}", headers={"Accept": accept})
    assert answer.text == '{"line":1}\n{"line":2}\n'
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    assert f'filename="receipt-{job_id}.jsonl"' in answer.headers["content-disposition"]


def test_the_table_is_parquet(http: TestClient, job_id: str) -> None:
    answer = http.get(f"{path(job_id)}?format=parquet")
    assert parquet.read_table(io.BytesIO(answer.content)).num_rows == len(ROWS)


def test_a_line_is_shown_token_by_token(http: TestClient, job_id: str) -> None:
    assert http.get(f"{path(job_id)}/lines/1").json() == {
        "object": "fine_tuning.job.receipt.line",
        "fine_tuning_job_id": job_id,
        "file": "training",
        "line": 1,
        "element": 0,
        "set_aside": None,
        "texts": [
            {
                "side": None,
                "split": "train",
                "cut": False,
                "end_learnt": True,
                "tokens_learnt": 1,
                "tokens": [
                    {"id": 7, "text": "Say", "learnt": False},
                    {"id": 8, "text": " a", "learnt": False},
                    {"id": 9, "text": "</s>", "learnt": True},
                ],
            }
        ],
    }


def test_a_line_that_was_set_aside_says_why(http: TestClient, job_id: str) -> None:
    line = http.get(f"{path(job_id)}/lines/2").json()
    assert line["set_aside"] == {"rule": "empty-answer", "reason": "The answer is empty."}
    assert line["texts"] == []


def test_both_answers_of_a_pair_an_element_and_the_other_file_are_found(
    http: TestClient, job_id: str
) -> None:
    lines = f"{path(job_id)}/lines"
    sides = [text["side"] for text in http.get(f"{lines}/3").json()["texts"]]
    assert sides == ["chosen", "rejected"]
    second = http.get(f"{lines}/4?element=2").json()
    assert (second["element"], second["texts"][0]["tokens"][0]["id"]) == (2, 1)
    held_out = http.get(f"{lines}/1?file=validation").json()
    assert held_out["texts"][0]["split"] == "held_out"


@pytest.mark.parametrize(
    ("place", "status", "param"),
    [
        ("/lines/99", 404, "line"),
        ("/lines/4?element=7", 404, "line"),
        ("/lines/0", 400, "line"),
        ("/lines/x", 400, "line"),
        ("/lines/" + "9" * 40, 400, "line"),
        ("/lines/1?element=-1", 400, "element"),
        ("/lines/1?file=other", 400, "file"),
        ("?format=csv", 400, "format"),
    ],
)
def test_what_cannot_be_shown_is_refused_at_its_place(
    http: TestClient, job_id: str, place: str, status: int, param: str
) -> None:
    answer = http.get(path(job_id) + place)
    assert answer.status_code == status
    assert answer.json()["error"]["param"] == param


def test_before_training_there_is_no_receipt_and_the_answer_says_when(
    client: openai.OpenAI, http: TestClient
) -> None:
    file = client.files.create(file=("train.jsonl", b"{}\n"), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="smollm2-135m-instruct", training_file=file.id)
    for place in ("", "/lines/1"):
        answer = http.get(path(job.id) + place)
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "receipt_not_ready"
        assert "once it is running" in answer.json()["error"]["message"]


def test_a_job_of_another_project_has_no_receipt(http: TestClient, world: Any, job_id: str) -> None:
    stranger = world.store.within("strangers")
    with pytest.raises(Exception, match=job_id):
        stranger.job(job_id)
    assert http.get(path("ftjob-unknown")).status_code == 404
