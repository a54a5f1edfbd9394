"""An example of each JSON body and each JSON answer, for the API's description.

Answers are made as handlers make theirs, so that they cannot differ from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.api.asking_examples import QUESTIONS, asked_answers
from tunesmith.api.export_examples import EXPORT_REQUESTS, export_answers
from tunesmith.api.job_examples import BASE, JOB_ID, NOW, OPEA_ID, TUNED, job_answers
from tunesmith.domain.files import File, Purpose
from tunesmith.domain.models import Permission
from tunesmith.domain.uploads import Upload, UploadPart, UploadStatus
from tunesmith.domain.values import Page
from tunesmith.domain.webhooks import Delivery, DeliveryStatus, WebhookEndpoint, WebhookEvent
from tunesmith.protocol.exports import CreateExport
from tunesmith.protocol.files import FileDeleted, FileList, FileObject
from tunesmith.protocol.health import ReadyObject
from tunesmith.protocol.jobs import CreateJob
from tunesmith.protocol.models import ModelDeleted, ModelList, ModelObject
from tunesmith.protocol.opea import OpeaHealth, OpeaJobId
from tunesmith.protocol.opea_create import OpeaCreateJob
from tunesmith.protocol.permissions import CreatePermissions, PermissionDeleted, PermissionList
from tunesmith.protocol.receipts import ReceiptTextObject, TokenObject
from tunesmith.protocol.repair import FileChange, FileRepair
from tunesmith.protocol.shown_rows import FileRowObject
from tunesmith.protocol.uploads import CompleteUpload, CreateUpload, UploadObject, UploadPartObject
from tunesmith.protocol.validation import (
    FileEstimate,
    FileProblem,
    FileTokenBar,
    FileTokens,
    FileValidation,
    ValidateFile,
)
from tunesmith.protocol.webhooks import (
    AskSample,
    CreateEndpoint,
    DeliveryList,
    DeliveryObject,
    EndpointDeleted,
    EndpointList,
    EndpointObject,
    EndpointWithSecret,
    EventTypeList,
    RotateSecret,
    SampleAnswer,
    UpdateEndpoint,
)
from tunesmith.protocol.wire import Wire

_FILE_ID = "file-4ZlX0vT8bQm2Yc6RkP1sWd9n"
_ORIGINAL_ID = "file-8bQm2Yc6RkP1sWd9n4ZlX0vT"

REQUESTS: Mapping[type[Wire], Mapping[str, dict[str, Any]]] = {
    **QUESTIONS,
    CreateJob: {
        "The least that is needed": {"model": BASE, "training_file": _FILE_ID},
        "Supervised, with options of this service": {
            "model": BASE,
            "training_file": _FILE_ID,
            "suffix": "support",
            "seed": 7,
            "metadata": {"team": "blue"},
            "method": {
                "type": "supervised",
                "supervised": {"hyperparameters": {"n_epochs": 3, "batch_size": "auto"}},
            },
            "tuning": {
                "adapter": {"rank": 8, "targets": ["q_proj", "v_proj"]},
                "max_length": 2048,
                "held_out_percent": 5,
                "early_stopping": {"patience": 3},
                "gate": "not_worse",
            },
        },
        "Preferences (DPO)": {
            "model": TUNED,
            "training_file": _FILE_ID,
            "method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": 0.1}}},
        },
    },
    OpeaCreateJob: {
        "In OPEA's dialect": {
            "model": BASE,
            "training_file": "alpaca_data.json",
            "General": {"task": "instruction_tuning", "lora_config": {"r": 8, "lora_alpha": 32}},
            "Dataset": {"max_length": 512},
            "Training": {"batch_size": 2, "epochs": 3, "learning_rate": 0.0001, "device": "cpu"},
        },
    },
    OpeaJobId: {"A job": {"fine_tuning_job_id": OPEA_ID}},
    CreateUpload: {
        "A file of 1 GB that is kept for 30 days": {
            "filename": "chats.jsonl",
            "purpose": "fine-tune",
            "bytes": 1_000_000_000,
            "mime_type": "application/jsonl",
            "expires_after": {"anchor": "created_at", "seconds": 2_592_000},
        },
    },
    CompleteUpload: {
        "Two parts": {
            "part_ids": ["part_Qm2Yc6RkP1sWd9n4ZlX0vT8b", "part_RkP1sWd9n4ZlX0vT8bQm2Yc6"],
            "md5": "9e107d9d372bb6826bd81d3542a419d6",
        },
    },
    CreateEndpoint: {
        "Told of good and bad ends": {
            "name": "Nightly",
            "url": "https://example.org/hook",
            "event_types": ["fine_tuning.job.succeeded", "fine_tuning.job.failed"],
        },
    },
    CreateExport: EXPORT_REQUESTS,
    UpdateEndpoint: {"Another address": {"url": "https://example.org/new-hook"}},
    RotateSecret: {"With a day to change over": {"keep_old_secret_active_for_24_hours": True}},
    AskSample: {"A sample of a good end": {"event_type": "fine_tuning.job.succeeded"}},
    CreatePermissions: {"Two projects": {"project_ids": ["blue", "red"]}},
    ValidateFile: {
        "What is wrong with it": {},
        "Tokens and steps as well": {"model": BASE, "method": "supervised", "n_epochs": 3},
    },
}
"""The bodies of each shape that handlers read, by what they ask for."""


def request_examples(shape: type[Wire]) -> dict[str, Any]:
    """Return the examples of a JSON body in `shape`, as OpenAPI's `examples`."""
    return {summary: {"value": value} for summary, value in REQUESTS[shape].items()}


def answer_examples() -> dict[str, Any]:
    """Return an example of each JSON answer, by the name of its shape."""
    shown = [
        *_files(),
        *job_answers(),
        *_models(),
        *asked_answers(),
        *export_answers(),
        *_webhooks(),
        *_health(),
    ]
    return {type(each).__name__: each.model_dump(mode="json", by_alias=True) for each in shown}


def _file() -> File:
    return File(
        id=_FILE_ID,
        filename="chats.jsonl",
        purpose=Purpose.FINE_TUNE,
        bytes=48_213,
        sha256="",
        created_at=NOW,
        key="",
    )


def _files() -> list[Wire]:
    upload = Upload(
        id="upload_P1sWd9n4ZlX0vT8bQm2Yc6Rk",
        filename="chats.jsonl",
        purpose=Purpose.FINE_TUNE,
        mime_type="application/jsonl",
        bytes=48_213,
        created_at=NOW,
        expires_at=NOW + 3600,
        status=UploadStatus.COMPLETED,
    )
    part = UploadPart(
        id="part_Qm2Yc6RkP1sWd9n4ZlX0vT8b", upload_id=upload.id, created_at=NOW, bytes=48_213
    )
    return [
        FileObject.to_wire(_file()),
        FileList.to_wire(Page(items=(_file(),), has_more=False)),
        FileDeleted(id=_FILE_ID),
        UploadObject.to_wire(upload, _file()),
        UploadPartObject.to_wire(part),
        _validation(),
        _repair(),
        _row(),
    ]


def _validation() -> FileValidation:
    problem = FileProblem(
        line=17,
        element=0,
        pointer="/messages/2/content",
        rule="empty_answer",
        message="Line 17, /messages/2/content: the answer is empty. Write one, or remove the line.",
        severity="error",
    )
    lengths = {"p1": 18, "p5": 24, "p25": 41, "p50": 66, "p75": 97, "p95": 180, "p99": 240}
    return FileValidation(
        file=_FILE_ID,
        valid=False,
        format="chat",
        method="supervised",
        examples=119,
        bad_rows=1,
        errors=[problem],
        counts={problem.rule: 1},
        truncated=False,
        tokens=FileTokens(
            model=BASE,
            max_length=1024,
            total=9_282,
            learnt=3_570,
            mean=78.0,
            percentiles=lengths | {"max": 251},
            histogram=[FileTokenBar(upto=64, examples=56), FileTokenBar(upto=256, examples=63)],
            cut=0,
            set_aside=0,
        ),
        estimate=FileEstimate(n_epochs=3, batch_size=4, steps=90, trained_tokens=27_846),
    )


def _repair() -> FileRepair:
    what = "The row was dropped: an earlier one is the same example."
    return FileRepair(
        file=FileObject.to_wire(_file()),
        original=_ORIGINAL_ID,
        mended={"duplicate": 1},
        unmended={"wrong_type": 2},
        changes=[FileChange(line=40, rule="duplicate", what=what)],
    )


def _row() -> FileRowObject:
    written = ((1, "<|im_start|>", False), (28, "4", True), (2, "<|im_end|>", True))
    text = ReceiptTextObject(
        side=None,
        split=None,
        cut=False,
        end_learnt=True,
        tokens_learnt=2,
        tokens=[TokenObject(id=id, text=text, learnt=learnt) for id, text, learnt in written],
    )
    return FileRowObject(
        file_id=_FILE_ID,
        model=BASE,
        line=17,
        element=0,
        method="supervised",
        set_aside=None,
        texts=[text],
    )


def _models() -> list[Wire]:
    base = ModelObject(id=BASE, created=0, owned_by="system")
    tuned = ModelObject(id=TUNED, created=NOW + 600, owned_by="acme")
    permission = Permission(
        id="cp_sWd9n4ZlX0vT8bQm2Yc6RkP1", model=TUNED, project_id="blue", created_at=NOW
    )
    return [
        tuned,
        ModelList(data=[base, tuned]),
        ModelDeleted(id=TUNED),
        PermissionList.of([permission]),
        PermissionDeleted(id=permission.id),
    ]


def _webhooks() -> list[Wire]:
    endpoint = WebhookEndpoint(
        id="we_d9n4ZlX0vT8bQm2Yc6RkP1sW",
        created_at=NOW,
        updated_at=NOW,
        name="Nightly",
        url="https://example.org/hook",
        event_types=(WebhookEvent.SUCCEEDED, WebhookEvent.FAILED),
        secret="whsec_…",  # noqa: S106
    )
    delivery = Delivery(
        id="wh_n4ZlX0vT8bQm2Yc6RkP1sWd9",
        endpoint_id=endpoint.id,
        event_id="evt_ZlX0vT8bQm2Yc6RkP1sWd9n4",
        type=WebhookEvent.SUCCEEDED,
        job_id=JOB_ID,
        created_at=NOW + 600,
        status=DeliveryStatus.DELIVERED,
        attempts=1,
        next_attempt_at=None,
        attempted_at=NOW + 600,
        status_code=204,
        delivered_at=NOW + 600,
    )
    return [
        EventTypeList(data=[each.value for each in WebhookEvent]),
        EndpointObject.to_wire(endpoint),
        EndpointWithSecret.to_wire(endpoint),
        EndpointList.to_wire(Page(items=(endpoint,), has_more=False)),
        EndpointDeleted(id=endpoint.id),
        SampleAnswer(
            event_type=WebhookEvent.SUCCEEDED, status_code=204, webhook_endpoint_id=endpoint.id
        ),
        DeliveryObject.to_wire(delivery),
        DeliveryList.to_wire(Page(items=(delivery,), has_more=False)),
    ]


def _health() -> list[Wire]:
    return [
        ReadyObject(
            status="ready",
            store=True,
            controller=True,
            cluster=True,
            standby=False,
            disk=True,
            missing=[],
        ),
        OpeaHealth(
            title="Tunesmith", version="0.1.0", description="Fine-tuning of language models"
        ),
    ]
