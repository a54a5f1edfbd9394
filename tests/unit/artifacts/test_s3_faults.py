"""Artifacts in a bucket whose store is away, refuses, or is cut off in the middle."""

from __future__ import annotations

import os
import time
from pathlib import Path
from unittest.mock import patch

import pytest
from botocore.exceptions import ClientError

from s3_server import BUCKET, S3Server
from tunesmith.artifacts.opening import lacking, open_artifacts
from tunesmith.artifacts.s3 import S3Artifacts
from tunesmith.artifacts.s3_bucket import PART
from tunesmith.domain.errors import (
    ArtifactMissingError,
    ArtifactsUnavailableError,
    DiskFullError,
    SettingsError,
)

LARGE = bytes(range(256)) * (PART // 256) + b"the rest"
"""More than a part."""


@pytest.fixture
def artifacts(s3_url: str) -> S3Artifacts:
    return S3Artifacts(s3_url, attempts=3)


def new_folder(folder: Path, text: str) -> Path:
    folder.mkdir()
    for name in "ab":
        (folder / name).write_text(text)
    return folder


def prefix_of(artifacts: S3Artifacts) -> str:
    return artifacts._bucket.path("")


def cut_once(server: S3Server, method: str, *, where: str, of: str = "") -> None:
    """Cut the connection of the next request of `method` whose address has `of`."""
    left = [1]

    def spoil(asked: str) -> str | None:
        if left and asked.startswith(method) and of in asked:
            left.pop()
            return where
        return None

    server.spoil = spoil


def test_an_append_whose_answer_is_lost_is_made_once(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    artifacts.append("log", b"one\n")
    cut_once(server, "PUT", where="after")
    artifacts.append("log", b"two\n")
    assert artifacts.get("log") == b"one\ntwo\n"


def test_a_lock_whose_answer_is_lost_is_held_by_who_asked(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    cut_once(server, "PUT", where="after", of=".locks/")
    with artifacts.locked("a"):
        artifacts.put("a", b"1")
    with artifacts.locked("a"):
        assert artifacts.get("a") == b"1"


@pytest.mark.parametrize("where", ["before", "body"])
def test_a_connection_that_breaks_off_is_tried_again(
    artifacts: S3Artifacts, server: S3Server, tmp_path: Path, where: str
) -> None:
    artifacts.put("a", LARGE)
    cut_once(server, "GET", where=where, of="/a")
    assert artifacts.get("a") == LARGE
    artifacts.put_folder("runs/1", new_folder(tmp_path / "new", "text"))
    cut_once(server, "GET", where=where, of=".files/")
    assert (artifacts.fetch_folder("runs/1") / "a").read_text() == "text"


def test_a_put_that_breaks_off_for_good_leaves_the_old_bytes(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    artifacts.put("a", b"old")
    server.spoil = lambda asked: "before" if "partNumber=1" in asked else None
    with pytest.raises(ArtifactsUnavailableError, match="cannot be reached"):
        artifacts.put("a", LARGE)
    server.spoil = lambda _: None
    assert artifacts.get("a") == b"old"
    assert artifacts.drop_unfinished(before=time.time() + 60) == 0, "it was given up at once"


def test_a_store_that_can_be_used_passes_the_check_and_nothing_is_left(
    artifacts: S3Artifacts, server: S3Server
) -> None:
    artifacts.check()
    assert not server.names(prefix_of(artifacts))


def test_a_store_that_heeds_no_conditions_is_refused(artifacts: S3Artifacts) -> None:
    put = artifacts._bucket.put

    def heedless(name: str, data: bytes, *, new: bool) -> str:
        return put(name, data)

    with (
        patch.object(artifacts._bucket, "put", heedless),
        pytest.raises(ArtifactsUnavailableError, match="If-None-Match"),
    ):
        artifacts.check()


def test_a_bucket_that_is_missing_is_named(server: S3Server) -> None:
    with pytest.raises(ArtifactsUnavailableError, match=r"no bucket 'absent-bucket'.*Create it"):
        S3Artifacts("s3://absent-bucket/p").check()


def test_missing_keys_are_told(
    server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    with pytest.raises(ArtifactsUnavailableError, match="Set AWS_ACCESS_KEY_ID and"):
        S3Artifacts(f"s3://{BUCKET}").check()


def test_an_endpoint_that_nobody_answers_is_told(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    away = S3Artifacts(f"s3://{BUCKET}", attempts=1)
    with pytest.raises(ArtifactsUnavailableError, match="Look at AWS_ENDPOINT_URL"):
        away.get("a")
    told = lacking(f"s3://{BUCKET}", "ftjob-1", node="here")
    assert told is not None
    assert told.startswith(f"Node here does not have the data of s3://{BUCKET}: give it")


@pytest.mark.parametrize(
    ("code", "status", "error", "words"),
    [
        ("SignatureDoesNotMatch", 403, ArtifactsUnavailableError, "refuses the keys"),
        ("AccessDenied", 403, ArtifactsUnavailableError, "forbids PutObject"),
        ("QuotaExceeded", 403, DiskFullError, "full"),
        ("NoSuchKey", 404, ArtifactMissingError, "no bytes"),
        ("Odd", 400, ArtifactsUnavailableError, "does not do PutObject: what it says"),
    ],
)
def test_refusals_are_called_by_what_they_mean(
    artifacts: S3Artifacts, code: str, status: int, error: type[Exception], words: str
) -> None:
    said = ClientError(
        {
            "Error": {"Code": code, "Message": "what it says"},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        "PutObject",
    )
    with (
        patch.object(artifacts._bucket.client, "put_object", side_effect=said),
        pytest.raises(error, match=words),
    ):
        artifacts.put("a", b"1")


def test_without_its_extra_a_bucket_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunesmith.artifacts.opening.find_spec", lambda _: None)
    with pytest.raises(SettingsError, match=r"tunesmith\[s3\]"):
        open_artifacts("s3://bucket")


def test_a_cache_that_others_can_write_is_not_used(s3_url: str, tmp_path: Path) -> None:
    own = tmp_path / f"tunesmith-artifacts-{os.getuid()}"
    own.mkdir()
    own.chmod(0o777)
    with pytest.raises(SettingsError, match="open to others"):
        S3Artifacts(s3_url)
