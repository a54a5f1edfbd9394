"""Each bad request for a job gets its status, OpenAI's error body, the place and the mend."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

JOBS = "/v1/fine_tuning/jobs"
OWN_OPEA = (f"{JOBS}/retrieve", f"{JOBS}/cancel", "/v1/finetune/list_checkpoints")
JSON = {"content-type": "application/json"}


WANDB = {"type": "wandb", "wandb": {"project": "p"}}


def mlflow(**settings: object) -> dict[str, object]:
    return {"type": "mlflow", "mlflow": settings}


def dpo(**hyperparameters: Any) -> dict[str, Any]:
    return {"type": "dpo", "dpo": {"hyperparameters": hyperparameters}}


@pytest.fixture
def refused(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """Return a function that asks for a job with `keys` and returns the error that it gets."""
    file_id = upload()["id"]

    def ask(status: int = 400, **keys: Any) -> dict[str, Any]:
        body = {"model": "smollm2-135m-instruct", "training_file": file_id} | keys
        answer = http.post(JOBS, json=body)
        assert answer.status_code == status, answer.text
        assert next(iter(answer.json())) == "error"
        error: dict[str, Any] = answer.json()["error"]
        assert list(error) == ["message", "type", "param", "code"]
        assert error["type"] == "invalid_request_error"
        return error

    return ask


@pytest.mark.parametrize(
    ("keys", "param", "found"),
    [
        ({"model": 5}, "model", "must be a string; found the number 5"),
        ({"training_file": 5}, "training_file", "must be a string"),
        ({"training_file": None}, "training_file", "found null"),
        ({"validation_file": ["x"]}, "validation_file", "found a list"),
        ({"suffix": ""}, "suffix", "1 or more"),
        ({"suffix": "x" * 65}, "suffix", "at most 64"),
        ({"suffix": "a:b"}, "suffix", "colon"),
        ({"suffix": "a b"}, "suffix", "whitespace"),
        ({"suffix": "a\u00a0b"}, "suffix", "whitespace"),
        ({"suffix": 1}, "suffix", "must be a string"),
        ({"seed": -1}, "seed", "at least 0"),
        ({"seed": 2**31}, "seed", "at most 2147483647; found"),
        ({"seed": 10**400}, "seed", "at most 2147483647"),
        ({"seed": "7"}, "seed", "must be an integer"),
        ({"seed": 1.5}, "seed", "must be an integer"),
        ({"seed": True}, "seed", "found true"),
        ({"metadata": {"k": 1}}, "metadata.k", "must be a string"),
        ({"metadata": {"k": "v" * 513}}, "metadata.k", "at most 512"),
        ({"metadata": {str(n): "" for n in range(17)}}, "metadata", "at most 16"),
        ({"metadata": []}, "metadata", "must be an object"),
        ({"integrations": [{"type": "wandb"}]}, "integrations.0.wandb", "is missing"),
        ({"integrations": [{"type": "clearml"}]}, "integrations.0.type", "'tensorboard' or 'mlf"),
        ({"integrations": [WANDB, {}]}, "integrations.1.type", "is missing"),
        ({"integrations": [{"type": "mlflow"}]}, "integrations.0.mlflow", "is missing"),
        ({"integrations": [mlflow()]}, "integrations.0.mlflow.experiment", "is missing"),
        ({"integrations": [{**WANDB, "mlflow": {}}]}, "integrations.0.mlflow", "no known key"),
        (
            {"integrations": [mlflow(experiment="e", tracking_uri="http://x")]},
            "integrations.0.mlflow.tracking_uri",
            "no known key",
        ),
        (
            {"integrations": [mlflow(experiment="e", tags={"tunesmith.job": "x"})]},
            "integrations.0.mlflow.tags",
            "begins with 'tunesmith.'",
        ),
        (
            {"integrations": [{"type": "tensorboard", "tensorboard": {"folder": "/"}}]},
            "integrations.0.tensorboard.folder",
            "no known key",
        ),
        ({"integrations": [WANDB] * 6}, "integrations", "at most 5"),
        ({"hyperparameters": {"n_epochs": 0}}, "hyperparameters.n_epochs", "from 1 to 50"),
        ({"hyperparameters": {"n_epochs": "3"}}, "hyperparameters.n_epochs", '"auto" or an'),
        ({"hyperparameters": {"batch_size": 257}}, "hyperparameters.batch_size", "1 to 256"),
        ({"hyperparameters": {"beta": 1}}, "hyperparameters.beta", "no known key"),
        ({"method": "supervised"}, "method", "must be an object"),
        ({"method": {}}, "method.type", "is missing"),
        ({"method": {"type": "reinforcement"}}, "method.type", "'supervised' and 'dpo'"),
        ({"method": {"type": "dpo", "supervised": {}}}, "method.supervised", "is 'dpo'"),
        ({"method": {"type": "supervised", "dpo": {}}}, "method.dpo", "is 'supervised'"),
        ({"method": {"type": "dpo"}, "hyperparameters": {}}, "hyperparameters", "method.dpo"),
        ({"method": dpo(beta=0)}, "method.dpo.hyperparameters.beta", "at most 2"),
        ({"method": dpo(beta=2.1)}, "method.dpo.hyperparameters.beta", "at most 2"),
        ({"method": dpo(n_epochs=51)}, "method.dpo.hyperparameters.n_epochs", "1 to 50"),
        ({"method": {"type": "magic"}}, "method.type", "'supervised'"),
        ({"unheard_of": 1}, "unheard_of", "no known key"),
    ],
)
def test_a_wrong_value_is_named_with_its_place_and_the_mend(
    refused: Callable[..., dict[str, Any]], keys: dict[str, Any], param: str, found: str
) -> None:
    error = refused(**keys)
    assert error["param"] == param
    assert found in error["message"]


@pytest.mark.parametrize("multiplier", [0, 1e-322, 9e-5, 1001, 1e300])
def test_a_wrong_hyperparameter_of_the_method_is_named_by_its_whole_path(
    refused: Callable[..., dict[str, Any]], multiplier: float
) -> None:
    hyperparameters = {"learning_rate_multiplier": multiplier}
    method = {"type": "supervised", "supervised": {"hyperparameters": hyperparameters}}
    error = refused(method=method)
    assert error["param"] == "method.supervised.hyperparameters.learning_rate_multiplier"
    assert '"auto" or a number from 0.0001 to 1000' in error["message"]
    assert error["message"].endswith(f"found the number {multiplier}.")


def test_hyperparameters_that_contradict_each_other_are_refused(
    refused: Callable[..., dict[str, Any]],
) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
    error = refused(method=method, hyperparameters={"n_epochs": 3})
    assert error["param"] == "hyperparameters.n_epochs"
    assert "'method.supervised.hyperparameters.n_epochs' is 2" in error["message"]


def test_an_unknown_model_is_refused_with_the_known_ones(
    refused: Callable[..., dict[str, Any]],
) -> None:
    for name in ("gpt-5", "ft:a:b::c", "ft:a:b::c:ckpt-step-1", "ft:a:b::c:ckpt-step-"):
        error = refused(404, model=name)
        assert error["code"] == "model_not_found"
        assert name in error["message"]
        assert "'smollm2-135m-instruct'" in error["message"]


def test_an_unknown_file_is_refused_at_its_key(refused: Callable[..., dict[str, Any]]) -> None:
    assert refused(404, training_file="file-none")["param"] == "training_file"
    assert refused(404, validation_file="file-none")["param"] == "validation_file"


def test_the_training_file_does_not_validate_itself(
    http: TestClient, upload: Callable[..., dict[str, Any]]
) -> None:
    file_id = upload()["id"]
    body = {"model": "org/tiny-llama", "training_file": file_id, "validation_file": file_id}
    assert http.post(JOBS, json=body).json()["error"]["param"] == "validation_file"


def test_a_file_for_another_purpose_is_no_training_file(
    http: TestClient, refused: Callable[..., dict[str, Any]]
) -> None:
    form = {"files": {"file": ("a", b"x")}, "data": {"purpose": "batch"}}
    file_id = http.post("/v1/files", **form).json()["id"]  # type: ignore[arg-type]
    error = refused(training_file=file_id)
    assert "'batch'" in error["message"]
    assert error["param"] == "training_file"


def test_a_file_name_with_a_key_of_openais_is_explained(
    refused: Callable[..., dict[str, Any]],
) -> None:
    error = refused(training_file="train.jsonl", method={"type": "supervised"})
    assert error["param"] == "training_file"
    assert "no file id" in error["message"]


@pytest.mark.parametrize(
    ("raw", "found"),
    [
        (b"", "no body"),
        (b"{", "not JSON: EOF while parsing an object at line 1 column 1"),
        (b'{"model": "m"\n "seed": 1}', "line 2 column 2"),
        (b"[]", "must be a JSON object; found a list"),
        (b'"x"', "must be a JSON object; found the string"),
        (b'{"seed": NaN}', "not JSON"),
        (b'{"seed": Infinity}', "not JSON"),
        (b'{"model": "\xff"}', "byte 12 is 0xff"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"model": "\\ud800"}', "not JSON"),
        (b"{}", "'model' is missing"),
    ],
)
def test_a_body_that_is_no_json_object_is_refused_with_the_place(
    http: TestClient, raw: bytes, found: str
) -> None:
    answer = http.post(JOBS, content=raw, headers=JSON)
    assert answer.status_code == 400
    assert found in answer.json()["error"]["message"]


def test_a_body_of_another_kind_is_refused(http: TestClient) -> None:
    answer = http.post(JOBS, data={"model": "m"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]["message"]


def test_a_body_that_is_too_large_is_refused(http: TestClient) -> None:
    answer = http.post(JOBS, content=b" " * (1024 * 1024 + 1), headers=JSON)
    assert answer.status_code == 413


def test_a_refused_request_leaves_no_job(
    http: TestClient, refused: Callable[..., dict[str, Any]]
) -> None:
    refused(seed=-1)
    assert http.get(JOBS).json()["data"] == []


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(
    (
        *("model", "training_file", "validation_file", "suffix", "seed", "metadata", "method"),
        *("hyperparameters", "integrations", "tuning", "General", "Dataset", "Training"),
        "fine_tuning_job_id",
    )
)
NESTED = st.dictionaries(
    st.sampled_from(["type", "n_epochs", "lora_config", "max_length", "epochs", "padding"]),
    ANYTHING,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(body=st.dictionaries(KEYS, ANYTHING | NESTED))
def test_no_json_body_makes_the_service_fail(http: TestClient, body: dict[str, Any]) -> None:
    named = {"model": "org/tiny-llama", "training_file": "none"} | body
    for path in (JOBS, *OWN_OPEA):
        for sent in (body, named):
            assert http.post(path, json=sent).status_code in (400, 404, 422)
