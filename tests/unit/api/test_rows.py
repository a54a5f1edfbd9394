"""`GET /v1/files/{id}/rows/{line}`: a row as a model would see it, before any job."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from starlette.testclient import TestClient

from models.tiny import byte_tokenizer
from tunesmith.api.app import create_app
from tunesmith.domain.models import CatalogueEntry, FolderSource

if TYPE_CHECKING:
    from unit.api.conftest import World

Upload = Callable[..., dict[str, Any]]

NOWHERE = FolderSource(path=Path("/nowhere"))

LINES = b"".join(
    json.dumps({"prompt": f"{n} + 1?", "completion": f"{n + 1}"}).encode() + b"\n" for n in range(3)
)


@pytest.fixture
def http(world: World, tmp_path: Path) -> Iterator[TestClient]:
    byte_tokenizer().save_pretrained(tmp_path)
    tiny = CatalogueEntry(name="tiny", source=FolderSource(path=tmp_path))
    bare = CatalogueEntry(name="bare", source=FolderSource(path=tmp_path / "nothing"))
    services = replace(world.services, catalogue={"tiny": tiny, "bare": bare})
    with TestClient(create_app(services)) as client:
        yield client


def test_a_row_is_shown_token_by_token(http: TestClient, upload: Upload) -> None:
    file = upload(content=LINES)

    answer = http.get(f"/v1/files/{file['id']}/rows/2", params={"model": "tiny"})

    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert {key: body[key] for key in ("object", "file_id", "model", "line", "element")} == {
        "object": "file.row",
        "file_id": file["id"],
        "model": "tiny",
        "line": 2,
        "element": 0,
    }
    [text] = body["texts"]
    assert "".join(each["text"] for each in text["tokens"] if each["learnt"]) == "2<|im_end|>"
    assert (text["tokens_learnt"], text["end_learnt"], text["split"]) == (2, True, None)
    assert body["set_aside"] is None


def test_a_row_that_a_job_would_not_learn_from_says_why(http: TestClient, upload: Upload) -> None:
    file = upload(content=LINES + b'{"prompt": 1}\n')
    path = f"/v1/files/{file['id']}/rows"

    bad = http.get(f"{path}/4", params={"model": "tiny"}).json()
    other = http.get(f"{path}/1", params={"model": "tiny", "method": "dpo"}).json()

    assert (bad["set_aside"]["rule"], bad["texts"]) == ("wrong_type", [])
    assert other["set_aside"]["rule"] == "wrong_method"


@pytest.mark.parametrize(
    ("line", "query", "status", "param", "says"),
    [
        ("9", {"model": "tiny"}, 404, "line", "no row on line 9"),
        ("1", {"model": "tiny", "element": 2}, 404, "line", "no row on element 2 of line 1"),
        ("0", {"model": "tiny"}, 400, "line", "1"),
        ("1", {}, 400, "model", "required"),
        ("1", {"model": "no-such"}, 404, "model", "does not exist"),
        ("1", {"model": "bare"}, 400, "model", "tokenizer.json"),
        ("1", {"model": "tiny", "max_length": 1}, 400, "max_length", "8"),
        ("1", {"model": "tiny", "method": "guess"}, 400, "method", "supervised"),
        ("1", {"model": "tiny", "over_length": "keep"}, 400, "over_length", "set_aside"),
        ("1", {"model": "tiny", "query_max_len": 1}, 400, "query_max_len", "8"),
        ("1", {"model": "tiny", "think_begin": "a b"}, 400, "think_begin", "pattern"),
    ],
)
def test_a_wrong_request_is_refused_by_its_place(
    http: TestClient,
    upload: Upload,
    line: str,
    query: dict[str, Any],
    status: int,
    param: str,
    says: str,
) -> None:
    file = upload(content=LINES)

    answer = http.get(f"/v1/files/{file['id']}/rows/{line}", params=query)

    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["param"] == param
    assert says in answer.json()["error"]["message"]


def test_a_file_that_is_not_there_is_404(http: TestClient) -> None:
    answer = http.get("/v1/files/file-none/rows/1", params={"model": "tiny"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (404, "file_id")


QUERY = b'{"query": "a", "pos": ["b"], "neg": ["c"]}\n' * 12


def test_a_row_is_seen_by_the_method_that_its_model_was_tuned_by(
    http: TestClient, world: World, upload: Upload
) -> None:
    file = upload(content=QUERY)
    job = http.post(
        "/v1/fine_tuning/jobs",
        json={"model": "tiny", "training_file": file["id"], "tuning": {"objective": "rerank"}},
    ).json()
    # The world's own catalogue has another model, and the run is of this one.
    world.services = replace(
        world.services, catalogue={"tiny": CatalogueEntry(name="tiny", source=NOWHERE)}
    )
    world.run(job["id"])
    checkpoints = http.get(f"/v1/fine_tuning/jobs/{job['id']}/checkpoints").json()["data"]
    tuned = checkpoints[0]["fine_tuned_model_checkpoint"]

    def seen(**query: str) -> tuple[str, int]:
        row = http.get(f"/v1/files/{file['id']}/rows/1", params=query).json()
        return row["method"], len(row["texts"])

    assert seen(model="tiny") == ("embedding", 3)
    assert seen(model="tiny", method="rerank") == ("rerank", 2)
    assert seen(model=tuned) == ("rerank", 2)
    assert seen(model=tuned, method="embedding") == ("embedding", 3)


def test_a_row_is_seen_with_what_a_job_would_be_told(http: TestClient, upload: Upload) -> None:
    long = upload(content=LINES)
    query = upload(content=QUERY)

    def shown(file: dict[str, Any], **given: Any) -> dict[str, Any]:
        answer = http.get(f"/v1/files/{file['id']}/rows/1", params={"model": "tiny", **given})
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    def texts(body: dict[str, Any]) -> list[str]:
        return ["".join(each["text"] for each in text["tokens"]) for text in body["texts"]]

    aside = shown(long, max_length=8, over_length="refuse")["set_aside"]
    assert aside["rule"] == "over_length"
    asked = texts(shown(query, query_instruction="Find: ", passage_instruction="Text: "))
    assert asked == ["Find: a", "Text: b", "Text: c"]
    bare = shown(query, query_max_len=8, passage_max_len=8, query_instruction="Find it: ")
    assert [text["cut"] for text in bare["texts"]] == [True, False, False]


def test_thoughts_are_seen_between_the_marks_of_the_query(http: TestClient, upload: Upload) -> None:
    file = upload(content=b'{"Question": "1+1?", "Complex_CoT": "Hm.", "Response": "2"}\n')

    row = http.get(
        f"/v1/files/{file['id']}/rows/1",
        params={"model": "tiny", "think_begin": "[t]", "think_end": "[/t]"},
    ).json()

    said = "".join(each["text"] for each in row["texts"][0]["tokens"] if each["learnt"])
    assert row["method"] == "reasoning"
    assert said == "[t]\nHm.\n[/t]\n\n2<|im_end|>"
